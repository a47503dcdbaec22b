"""The report as a browser or a reader aloud meets it: structure, alternative texts, no outside request, escaped texts."""

import base64
import itertools
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mezikd.inference import figures
from mezikd.inference.commands import BAD_INPUT, DONE, built_in_fit, run
from mezikd.inference.report import SECTIONS
from mezikd.inference.report_predictions import read_predictions
from mezikd.inference.report_tables import number, strip

NAME, WHERE = "<script>alert(1)</script>", "Table <img src=x onerror=alert(1)> & 'more'"
SCENARIO = '<b onclick="x()">0.6 mg</b>'
HEADER = "scenario,arm,outcome,month,unit,median,pi90_low,pi90_high,extrapolated,pi50_low,pi50_high,mc_error\n"
PREDICTIONS = HEADER + (
    f'"{SCENARIO.replace(chr(34), chr(34) * 2)}",mezikd,PFS,12,percent,61.5,50,70,True,58,65,0.2\n'
    "as in the trial,mezikd,PFS,12,percent,62.5,55,70,False,60,66,0.2\n"
    "as in the trial,mezikd,PFS median,,months,18.2,15,inf,False,17,20,0.1\n"
)
DIFFERENCES = (
    "scenario,reference,outcome,month,unit,median,pi90_low,pi90_high,extrapolated,pi50_low,pi50_high,mc_error,better_if,p_better\n"
    "0.6 mg,as in the trial <i>,PFS,12,percentage points,-1.5,-3,0.5,True,-2,-1,0.2,higher,0.12\n"
)
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """What a page consists of; fails on tags that do not nest."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and re.fullmatch("h[1-6]", self.open[-1]):
            self.headings.append((int(self.open[-1][1]), data.strip()))
        if "style" not in self.open:
            self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def as_shipped():
    """Figures as they ship with the fit: drawing them is the slow part."""

    def copy(tree, problem, table, folder):
        for path in (built_in_fit() / "figures").glob("*.png"):
            shutil.copy(path, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "write_figures", copy)
        yield


STRUCTURES = "Structures: stacked mixture of arrest, 25 % of the draws (<best>); arrest, no tumour memory, 75 %."


@pytest.fixture(scope="module")
def written(tmp_path_factory, as_shipped) -> Path:
    """The report of the shipped fit, its file moved elsewhere, with hostile texts in its inputs and predictions."""
    root = tmp_path_factory.mktemp("report")
    with xr.open_datatree(built_in_fit() / "posterior.nc", engine="h5netcdf") as opened:
        tree = opened.load()
    settings, evidence = str(tree.attrs["file:fit.toml"]), str(tree.attrs["file:evidence.csv"])
    assert 'name = "SUCCESSOR-2"' in settings and "Table 3,check" in evidence
    tree.attrs["file:fit.toml"] = settings.replace('name = "SUCCESSOR-2"', f'name = "{NAME}"')
    tree.attrs["file:evidence.csv"] = evidence.replace("Table 3,check", f"{WHERE},check", 1)
    tree.to_netcdf(root / "alone.nc", engine="h5netcdf")
    (root / "doses").mkdir()
    (root / "doses" / "predictions.csv").write_text(PREDICTIONS)
    (root / "doses" / "differences.csv").write_text(DIFFERENCES)
    (root / "doses" / "summary.md").write_text(f"# What if\n\n{STRUCTURES}\n")
    (root / "doses" / "figures").mkdir()
    shutil.copy(built_in_fit() / "figures" / "pfs.png", root / "doses" / "figures" / "trade_off.png")
    arguments = [
        "report", str(root / "alone.nc"), "--predictions", str(root / "doses"), "--out", str(root / "out"),
    ]  # fmt: skip
    assert run(arguments) == DONE
    assert [p.name for p in (root / "out").iterdir()] == ["report.html"]
    return root / "out" / "report.html"


@pytest.fixture(scope="module")
def page(written) -> Page:
    return Page(written.read_text("utf-8"))


def test_it_says_which_structures_the_predictions_come_from(written):
    text = written.read_text("utf-8")
    assert "Structures: stacked mixture of arrest, 25 % of the draws (&lt;best&gt;)" in text
    assert "The other sections are of the fit of one structure." in text


def test_structure(page):
    assert page.of("html")[0]["lang"] == "en"
    assert [level for level, _ in page.headings].count(1) == 1 and page.headings[0][0] == 1
    levels = [level for level, _ in page.headings]
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels)), levels
    assert [s["id"] for s in page.of("section")] == list(SECTIONS)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    inner = [a["href"] for a in page.of("a") if str(a["href"]).startswith("#")]
    assert {str(h)[1:] for h in inner} <= set(ids) and len(inner) == len(SECTIONS)
    assert any(m.get("name") == "viewport" for m in page.of("meta"))


def test_tables_and_images_are_accessible(page):
    tables = page.of("table")
    assert len(page.of("caption")) == len(tables) >= 6
    assert all(h.get("scope") in ("row", "col") for h in page.of("th"))
    images = page.of("img")
    assert len(images) == 7
    for image in images:
        assert len(str(image["alt"])) > 40 and str(image["src"]).startswith("data:image/png;base64,")
        assert int(str(image["width"])) > 300
    (course,) = [s for s in page.of("svg") if s.get("role") == "img"]
    labelled = str(course["aria-labelledby"]).split()
    assert {a.get("id") for _, a in page.tags} >= set(labelled)
    assert all(s.get("aria-hidden") == "true" for s in page.of("svg") if s is not course)


def test_nothing_is_asked_of_the_outside(page, written):
    assert not {"script", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.tags}
    outside = [
        (tag, name, value)
        for tag, attrs in page.tags
        for name, value in attrs.items()
        if name in ("src", "href", "srcset", "data", "poster", "action") and not str(value).startswith(("#", "data:"))
    ]
    assert outside == [("a", "href", "https://doi.org/10.1016/S0140-6736(26)01088-3")]
    (style,) = re.findall(r"(?s)<style>(.*?)</style>", written.read_text("utf-8"))
    assert "url(" not in style and "@import" not in style
    (policy,) = [m["content"] for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy).startswith("default-src 'none'")


def test_texts_of_files_are_inert(page):
    assert NAME in "".join(page.text) and WHERE in "".join(page.text) and SCENARIO in "".join(page.text)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert not page.of("b") and not page.of("i")


def test_contents(page):
    text = " ".join(" ".join(page.text).split())
    table = pd.read_csv(built_in_fit() / "check.csv")
    inside = table.groupby("role")["covered"].agg(["sum", "size"])
    for words in (
        *(f"{line['sum']} of {line['size']}" for _, line in inside.iterrows()), "176 of 288", "neutropenia_any",
        "Extrapolated", "prior-driven", "SHA-256", "steps_per_day", "not reached", "ec50_tumour", "61.5", "Differences from as in the trial <i>", "P(better)", "0.12",
    ):  # fmt: skip
        assert words in text, words
    # The gate is judged anew from the draws in the file.
    diagnostics = json.loads((built_in_fit() / "diagnostics.json").read_text())
    assert "passed" in text and f"{diagnostics['max_rhat']:.4f}" in text


@pytest.mark.usefixtures("as_shipped")
def test_shipped_posterior_without_predictions(tmp_path):
    for name in "ab":
        assert run(["report", "--out", str(tmp_path / name)]) == DONE
    first, second = ((tmp_path / name / "report.html").read_bytes() for name in "ab")
    assert first == second
    text = " ".join("".join(Page(first.decode()).text).split())
    assert "mezikd predict FIT --out DIR2" in text and "SUCCESSOR-2" in text


@pytest.mark.slow
def test_figures_are_drawn_from_the_file_alone(tmp_path):
    shutil.copy(built_in_fit() / "posterior.nc", tmp_path / "alone.nc")
    assert run(["report", str(tmp_path / "alone.nc"), "--out", str(tmp_path / "out")]) == DONE
    images = Page((tmp_path / "out" / "report.html").read_text("utf-8")).of("img")
    drawn = {base64.b64decode(str(i["src"]).split(",")[1]) for i in images}
    assert len(drawn) == 6 and all(len(x) > 50_000 for x in drawn)


def test_groups_of_predictions(tmp_path):
    (tmp_path / "predictions.csv").write_text(PREDICTIONS)
    told = read_predictions(tmp_path)
    assert [(g["outcome"], len(g["lines"]), g["has_month"]) for g in told["groups"]] == [("PFS", 2, True), ("PFS median", 1, False)]  # fmt: skip
    assert told["groups"][1]["lines"][0]["most"] == "15 to not reached"
    assert [x["extrapolated"] for x in told["groups"][0]["lines"]] == [True, False]


BAD = {
    "no folder": (None, ("--predictions", "no folder", "mezikd predict")),
    "no table": ("", ("predictions.csv", "no such file")),
    "header alone": (HEADER, ("predictions.csv", "no row")),
    "missing column": (PREDICTIONS.replace(",median,", ",middle,", 1), ("predictions.csv", "column middle")),
    "text for a number": (PREDICTIONS.replace("61.5", "much"), ("line 2", "column median", "'much'")),
    "neither true nor false": (PREDICTIONS.replace(",True,", ",perhaps,"), ("column extrapolated", "perhaps")),
}


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD.keys())
def test_bad_predictions(tmp_path, capsys, text, words):
    folder = tmp_path / "doses"
    if text is not None:
        folder.mkdir()
    if text:
        (folder / "predictions.csv").write_text(text)
    assert run(["report", "--predictions", str(folder), "--out", str(tmp_path / "out")]) == BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith("mezikd: ") and said.count("\n") == 1
    assert all(w in said for w in words), said
    assert not (tmp_path / "out").exists()


def test_a_picture_that_is_none(tmp_path, capsys):
    (tmp_path / "figures").mkdir()
    (tmp_path / "predictions.csv").write_text(PREDICTIONS)
    (tmp_path / "figures" / "a.png").write_text("<svg/>")
    assert run(["report", "--predictions", str(tmp_path), "--out", str(tmp_path / "out")]) == BAD_INPUT
    assert "not a PNG" in capsys.readouterr().err


def test_number():
    assert [number(x) for x in (0.0, 8.0, 0.0371, 83.46, 194.0, 1088.4, np.inf, np.nan)] == [
        "0", "8", "0.0371", "83.5", "194", "1088", "not reached", "–",
    ]  # fmt: skip


@pytest.mark.parametrize("reported", [0.0, 5.0, np.inf, np.nan])
@pytest.mark.parametrize("high", [0.0, 8.0, np.inf])
def test_strip_stays_within_its_frame(reported, high):
    picture = strip(reported, {"pi90_low": 0.0, "pi50_low": 0.0, "pi50_high": high, "pi90_high": high})
    assert "nan" not in picture and "inf" not in picture
    numbers = [float(x) for x in re.findall(r'(?:x[12]?|width)="([-0-9.]+)"', picture)]
    assert all(0.0 <= x <= 121.0 for x in numbers)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_in_a_browser(written, tmp_path):
    """A headless Chromium renders it at a phone's width without a word on the console."""
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync --enable-logging=stderr"
    done = subprocess.run(
        ["chromium", *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--window-size=390,3000",
         f"--screenshot={tmp_path / 'page.png'}", f"file://{written}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (tmp_path / "page.png").stat().st_size > 50_000
    assert "CONSOLE" not in done.stderr.upper().replace("CONSOLECOMMAND", "")
