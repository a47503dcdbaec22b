"""The built-in evidence loads and agrees with the project's table; its checks refuse, never crash."""

import csv
import io
import math
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mezikd.inference.commands import built_in_fit
from mezikd.inference.errors import InputError, input_error
from mezikd.inference.evidence import COLUMNS, Evidence, load_evidence
from mezikd.inference.priors import load_priors
from mezikd.inference.settings import FitSettings, load_settings, with_overrides
from mezikd.inference.tables import is_number
from mezikd.inference.vocabulary import REGIONS, VOCABULARY
from mezikd.model.parameters import DECLARED

REPORTED = Path(__file__).parents[3] / "shared" / "evidence" / "reported.csv"
DERIVED_DENOMINATORS = {"neutropenia_duration": (176, 17), "followup": (479,)}
"""Not stated in the paper, so blank in the project's table; the likelihood of quartiles needs them."""


@cache
def study() -> FitSettings:
    return load_settings(built_in_fit())


@cache
def evidence() -> Evidence:
    return load_evidence(built_in_fit(), study())


def test_every_outcome_of_the_vocabulary_is_there():
    assert {(r.outcome, r.statistic) for r in evidence().rows} == set(VOCABULARY)


def test_roles():
    assert len(evidence().rows) == len(evidence().fit) + len(evidence().check)
    fitted = {(r.outcome, r.statistic) for r in evidence().fit}
    assert fitted == {key for key, outcome in VOCABULARY.items() if outcome.fittable}


@pytest.mark.parametrize(("id", "whole"), [("neutropenia_g34", 176), ("infection_g34", 98)])
def test_regions_add_up(id, whole):
    parts = [evidence().find(id, "mezikd", region) for region in REGIONS]
    assert sum(p.value for p in parts) == whole == evidence().find(id, "mezikd").value
    assert sum(p.denominator for p in parts) == study().trial.mezikd.treated


def test_lookups():
    row = evidence().find("infection_with_neutropenia", "mezikd")
    conditional_on = evidence().given(row)
    assert conditional_on is not None
    assert (conditional_on.id, conditional_on.value) == ("infection_any", row.denominator)
    assert evidence().get("infection_any", "both") is None
    ttp = evidence().find("ttp_median", "mezikd")
    assert ttp.not_reached == ("high",)
    assert math.isnan(ttp.high)
    assert set(COLUMNS) < set(evidence().frame().columns)
    assert len(evidence().frame()) == len(evidence().rows)


def test_agrees_with_the_table_transcribed_independently():
    if not REPORTED.exists():
        pytest.skip("no ../shared/evidence/reported.csv beside this checkout")
    reported = pd.read_csv(REPORTED, dtype=str, keep_default_na=False)
    reported = reported.set_index(["id", "arm", "subgroup"])

    def number(cell: str) -> float:
        return math.nan if cell in ("", "NR") else float(cell)

    for row in evidence().rows:
        theirs = reported.loc[row.key]
        for column in ("value", "low", "high", "denominator"):
            ours, other = getattr(row, column), number(str(theirs[column]))
            if column == "denominator" and row.id in DERIVED_DENOMINATORS:
                assert math.isnan(other)
                assert ours in DERIVED_DENOMINATORS[row.id]
            else:
                assert ours == other or (math.isnan(ours) and math.isnan(other)), (row.name, column)
        assert all(theirs[c] == getattr(row, c) for c in ("outcome", "statistic", "interval", "unit")), row.name
    known = reported[[key in VOCABULARY for key in zip(reported["outcome"], reported["statistic"], strict=True)]]
    left_out = set(known.index) - {row.key for row in evidence().rows}
    # Reported without interval, and in a subgroup that the model does not have.
    assert left_out == {("pfs_median", arm, "one_previous_line") for arm in ("mezikd", "kd")}


def test_byte_order_mark_and_line_ends_do_no_harm(tmp_path):
    data = (built_in_fit() / "evidence.csv").read_bytes()
    (tmp_path / "evidence.csv").write_bytes(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n") + b"\r\n\r\n")
    loaded = load_evidence(tmp_path, study())
    assert [(r.key, r.line) for r in loaded.rows] == [(r.key, r.line) for r in evidence().rows]


def test_overrides():
    changed = with_overrides(study(), {"chains": 2, "virtual_patients": 64, "seed": 7})
    assert (changed.sampler.chains, changed.sampler.seed) == (2, 7)
    assert (changed.patients.mezikd, changed.patients.kd) == (64, 32)
    assert with_overrides(study(), {}) == study()


def test_priors(tmp_path):
    assert load_priors(tmp_path, DECLARED) == {}
    assert load_priors(built_in_fit(), DECLARED) == {}
    (tmp_path / "priors.csv").write_text("name,centre,spread,source\nec50,0.3,0.5,x\ntheta,0.96,,y\n")
    assert load_priors(tmp_path, DECLARED) == {"ec50": (0.3, 0.5), "theta": (0.96, 0.0)}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_is_a_number(x):
    assert is_number(repr(x))


@given(st.text(max_size=12))
def test_what_passes_as_a_number_is_finite(text):
    assert not is_number(text) or math.isfinite(float(text))


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_message_is_one_line(file, problem):
    assert len(str(input_error(file, problem, "do this")).splitlines()) <= 1


CELLS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", "NR", "fit", "check", "all", "asia", "both", "kd", "mezikd", "infection_g34", "pfs_median"]),
    st.sampled_from(["ci95", "iqr", "none", "count", "median", "quartiles", "hazard_ratio", "months", "patients"]),
    st.integers(-5, 300).map(str),
    st.floats().map(repr),
)


@settings(max_examples=150, deadline=None)
@given(row=st.integers(0, 56), changes=st.dictionaries(st.sampled_from(COLUMNS), CELLS, min_size=1, max_size=3))
def test_any_cells_give_evidence_or_one_line(row, changes):
    with (built_in_fit() / "evidence.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows[row].update(changes)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "evidence.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
        loaded = load_evidence(folder, study())
    except InputError as error:
        assert str(error).startswith(str(folder / "evidence.csv"))
        assert len(str(error).splitlines()) == 1
    else:
        assert all(math.isfinite(r.value) for r in loaded.fit)
        assert all(r.value <= r.denominator for r in loaded.rows if r.statistic == "count")
    finally:
        shutil.rmtree(folder)


@settings(max_examples=100, deadline=None)
@given(
    at=st.integers(0, 5000),
    noise=st.binary(min_size=1, max_size=4),
    file=st.sampled_from(["fit.toml", "evidence.csv"]),
)
def test_damaged_bytes_give_one_line_or_load(at, noise, file):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = (built_in_fit() / file).read_bytes()
        at %= len(data)
        (folder / file).write_bytes(data[:at] + noise + data[at + len(noise) :])
        try:
            load_settings(folder) if file == "fit.toml" else load_evidence(folder, study())
        except InputError as error:
            assert len(str(error).splitlines()) == 1


def test_the_guide_lists_every_outcome():
    guide = (built_in_fit().parent / "README.md").read_text(encoding="utf-8")
    for outcome in VOCABULARY.values():
        roles = [", ".join(outcome.roles(arm)) for arm in outcome.arms]
        (line,) = [x for x in guide.splitlines() if x.startswith(f"| {outcome.text} | {outcome.statistic} |")]
        assert f"| {outcome.unit} |" in line
        assert f"| {roles[0]} | {outcome.given or ''} | {outcome.estimand} |" in line
