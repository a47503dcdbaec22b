"""Figures in these notebooks: small PNGs with a text for those who cannot see them."""

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import PIL.Image
from IPython.display import Image, display

QUICK = os.environ.get("MEZIKD_QUICK", "") not in ("", "0")
"""Whether the notebooks run with settings so small that their numbers mean nothing: a test that they run."""
COLOURS = 128


def show(draw: Callable[..., Any], *inputs: Any, alt: str) -> None:
    """Display the PNG that ``draw(*inputs, path)`` writes; ``figure.savefig`` is such a function."""
    with TemporaryDirectory() as place:
        path = Path(place) / "figure.png"
        draw(*inputs, path)
        small = BytesIO()
        with PIL.Image.open(path) as picture:
            # A palette makes the file three times smaller; the figures have few colours.
            # Maximum coverage keeps the rare colours, such as that of a mark outside its interval.
            how = {"method": PIL.Image.Quantize.MAXCOVERAGE, "dither": PIL.Image.Dither.NONE}
            picture.convert("RGB").quantize(COLOURS, **how).save(small, "png", optimize=True)
            width = min(picture.width, 900)
    display(Image(small.getvalue(), width=width, alt=alt))
