"""Figures of a fit as the report embeds them: PNG as data URI, each with a text that says what it shows."""

import base64
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import xarray as xr

from .errors import input_error
from .problem import Problem

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """One figure."""

    uri: str
    """Data URI."""
    width: int
    """Pixels."""
    height: int
    title: str
    alt: str
    """What a reader who does not see it is told."""
    note: str


def embedded(path: Path, title: str, alt: str, note: str = "") -> Picture:
    """Return the PNG file ``path`` as a picture.

    Raises
    ------
    InputError: it is no PNG file.
    """
    data = path.read_bytes()
    if data[:8] != PNG_MAGIC or len(data) < 24:
        raise input_error(path, "not a PNG picture", "remove it, or write the predictions again")
    width, height = struct.unpack(">II", data[16:24])
    uri = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
    return Picture(uri, width, height, title, alt, note)


BANDS = "Bands: 50 % and 90 % posterior intervals of the model's expectation."


def _texts(table: pd.DataFrame, problem: Problem) -> dict[str, tuple[str, str, str]]:
    """Return (title, alternative text, note) of each figure of figures.write_figures, by file name."""
    inside = table.groupby("role")["covered"].agg(["sum", "size"])
    shares = "; ".join(
        f"{name}: {inside.loc[role, 'sum']} of {inside.loc[role, 'size']} inside"
        for role, name in (("fit", "fitted"), ("check", "not fitted"))
        if role in inside.index
    )
    outside = ", ".join(dict.fromkeys(table.loc[~table["covered"].astype(bool), "id"])) or "none"
    r = problem.target.design.regimen
    return {
        "reported_against_predicted": (
            "Reported against predicted numbers",
            f"Each reported number as a diamond on its 50 % and 90 % predictive intervals. {shares}. Outside: {outside}. "
            "The tables above give every number.",
            "Fitted numbers left, unfitted ones right; counts as percent of their denominators.",
        ),
        "prior_posterior": (
            "Prior and posterior density of each estimated parameter",
            "Small panels, one a parameter: the prior in grey, the posterior in blue where the data moved it and in orange "
            "where it stayed at the prior. The table below gives the quantiles and the contraction.",
            "Orange: prior-driven. A star marks a prior without an outside source.",
        ),
        "trace_rank": (
            "Traces and ranks of the parameters that mix slowest",
            "For the parameters with the smallest effective sample sizes: traces of all chains on the left, and histograms "
            "of the ranks of each chain on the right, which are flat where chains mix.",
            "Flat histograms: the chains say the same.",
        ),
        "anc_course": (
            f"Neutrophil count over three cycles, every planned dose taken ({r.dose_mg:g} mg, {r.days_on}/{r.cycle_days} days)",
            "Absolute neutrophil count over 84 days: silence for about a week, a fall, a plateau, and recovery in the days "
            "off. Above the posterior of the population median, below the spread between patients.",
            BANDS,
        ),
        "infection": (
            "Cumulative incidence of grade ≥ 3 infection",
            "Share of patients with a recorded infection of grade 3 or worse over 24 months in both arms, beside the reported "
            "totals and quartiles of onset.",
            BANDS,
        ),
        "pfs": (
            "Progression-free survival",
            "Progression-free survival over 24 months in both arms beside the reported medians with their 95 % confidence "
            "intervals, and the hazard ratio reported and predicted.",
            BANDS,
        ),
    }  # fmt: skip


def fit_pictures(tree: xr.DataTree, problem: Problem, table: pd.DataFrame) -> dict[str, Picture]:
    """Return the figures of a fit by name, drawn anew from its draws; ``table`` is its check.csv."""
    from .figures import write_figures

    with tempfile.TemporaryDirectory() as place:
        write_figures(tree, problem, table, Path(place))
        texts = _texts(table, problem)
        return {name: embedded(Path(place) / f"{name}.png", *text) for name, text in texts.items()}
