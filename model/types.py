"""Array axes, named once: every signature of the package uses these words.

Axes: ``patients`` virtual or simulated patients (always the last axis), ``days`` days since the first dose,
``weeks`` weeks since the first dose, ``draws`` posterior draws, ``regions`` USA, Europe, Asia, rest of world.
"""
