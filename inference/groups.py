"""Groups of fitted rows: numbers that tell of the same thing, left out together or scaled together."""

from .evidence import Row

GROUPS = {
    "neutropenia": ("neutropenia grade 3 or 4", "duration of grade 3 or 4 neutropenia"),
    "dosing": (
        "mezigdomide delayed or paused for neutropenia",
        "relative dose intensity, mezigdomide",
        "mezigdomide dose reduced, any cause",
    ),
    "infection": (
        "infection grade 3 or 4",
        "infection any grade",
        "infection, worst grade 4",
        "time to onset of grade 3 or 4 infection",
        "infection concurrent with grade >=3 neutropenia",
    ),
    "progression and death": ("progression-free survival", "progression or death", "death from any cause"),
    "treatment and follow-up": ("duration of treatment", "follow-up"),
}
"""Outcomes of the fitted rows, by group."""


def group_of(row: Row) -> str:
    """Return the group of a fitted row."""
    return next(name for name, outcomes in GROUPS.items() if row.outcome in outcomes)
