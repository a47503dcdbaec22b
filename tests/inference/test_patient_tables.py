"""NONMEM-style tables: what is understood of good ones, and that whatever is wrong is one InputError."""

import gzip
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mezikd.inference import commands
from mezikd.inference.errors import InputError
from mezikd.inference.nonmem_tables import read_nonmem
from mezikd.inference.patient_tables import read_patients
from mezikd.model.dosing_events import schedule

DVID = {1: "concentration", 2: "anc"}
TORSTEN = Path(__file__).parents[3] / "shared" / "data" / "torsten_neutropenia5.csv"
GOOD = """\
ID,TIME,AMT,RATE,II,ADDL,SS,EVID,CMT,DV,MDV,DVID,CENS,LLOQ,WT,SEX
a,0,.,.,.,.,.,0,2,4.1,0,2,0,,70,F
a,0,100,0,24,6,0,1,1,.,1,.,.,,70,F
a,2,.,.,.,.,.,0,2,12.5,0,1,0,0.5,70,F
a,400,.,.,.,.,.,0,2,,0,1,1,0.5,70,F
b,0,100,0,12,3,1,1,1,.,1,.,.,,81.5,M
b,1,50,25,0,0,0,1,2,.,1,.,.,,81.5,M
b,3,.,.,.,.,.,0,2,0.5,0,1,1,,81.5,M
b,4,.,.,.,.,.,0,2,.,1,2,.,,81.5,M
b,48,.,.,.,.,.,3,1,.,1,.,.,,81.5,M
b,0,200,0,0,0,0,4,1,.,1,.,.,,81.5,M
b,24,.,.,.,.,.,0,2,1.2,0,2,0,,81.5,M
"""


def write(folder: Path, text: str, name: str = "trial.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_table_with_everything(tmp_path):
    data = read_nonmem(write(tmp_path, GOOD), DVID)
    assert data.ids == ("a", "b")
    o = data.observations
    assert o["source_row"].tolist() == [2, 4, 5, 8, 12]
    assert o["observable"].tolist() == ["anc", "concentration", "concentration", "concentration", "anc"]
    assert o["value"].tolist() == [4.1, 12.5, 0.5, 0.5, 1.2]
    assert o["censored"].tolist() == [False, False, True, True, False]
    a, b = data.records
    # The row without a value stays as a time, not as an observation.
    assert b.evid.tolist() == [1, 1, 0, 2, 3, 4, 0]
    assert (b.ss.tolist()[0], b.addl.tolist()[0], b.rate.tolist()[1]) == (1, 3, 25.0)
    assert a.time.tolist() == [0.0, 0.0, 2.0, 400.0]
    for p, r in enumerate(data.records):
        assert r.time[r.evid == 0].tolist() == o.loc[o["patient"] == p, "time"].tolist()
    assert data.doses().tolist() == [7, 6]
    assert data.covariates["WT"].tolist() == [70.0, 81.5]
    assert data.covariates["SEX"].tolist() == ["F", "M"]
    assert schedule(data.records).at.shape == (2, 3)


def test_days_are_hours_inside(tmp_path):
    text = "ID,TIME,AMT,RATE,II,ADDL,CMT,DV,DVID\n1,0,10,.,1,3,1,.,.\n1,2,12,6,.,.,2,.,.\n1,7,.,.,.,.,.,3.5,2\n"
    data = read_nonmem(write(tmp_path, text), DVID, time_unit="d")
    (r,) = data.records
    assert r.time.tolist() == [0.0, 48.0, 168.0]
    assert r.ii.tolist() == [24.0, 0.0, 0.0]
    assert r.rate.tolist() == [0.0, 0.25, 0.0]
    assert r.evid.tolist() == [1, 1, 0]  # derived from AMT


def test_compartments_tell_observables_where_there_is_no_dvid(tmp_path):
    text = "id,time,amt,evid,cmt,dv\n7,0,10,1,1,.\n7,1,.,0,2,5\n7,2,.,0,8,2.5\n"
    data = read_nonmem(write(tmp_path, text), {2: "concentration", 8: "anc"})
    assert data.observations["observable"].tolist() == ["concentration", "anc"]


def test_formula_in_an_id_stays_text(tmp_path, capsys):
    path = write(tmp_path, GOOD.replace("\na,", "\n=1+1,"))
    assert read_nonmem(path, DVID).ids[0] == "=1+1"
    out = tmp_path / "out"
    assert commands.run(["tables", str(path), "--dvid", "1=concentration,2=anc", "--out", str(out)]) == 0
    assert "patients: 2" in capsys.readouterr().out
    assert set(pd.read_csv(out / "observations.csv")["id"]) == {"'=1+1", "b"}


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet", ".xpt"])
def test_other_formats_say_the_same(tmp_path, suffix):
    wanted = read_nonmem(write(tmp_path, GOOD), DVID)
    path = tmp_path / f"trial{suffix}"
    frame = pd.read_csv(tmp_path / "trial.csv", na_values=".")
    if suffix == ".csv.gz":
        path.write_bytes(gzip.compress(GOOD.encode()))
    elif suffix == ".parquet":
        frame.to_parquet(path, engine="pyarrow")
    else:
        pytest.importorskip("pyreadstat").write_xport(frame, str(path), file_format_version=5)
    data = read_nonmem(path, DVID)
    shift = 0 if suffix == ".csv.gz" else 1
    o = data.observations.assign(source_row=data.observations["source_row"] + shift)
    pd.testing.assert_frame_equal(o, wanted.observations, check_exact=True)
    pd.testing.assert_frame_equal(data.covariates, wanted.covariates, check_exact=True)
    for x, y in zip(data.records, wanted.records, strict=True):
        assert all(np.array_equal(getattr(x, k), getattr(y, k)) for k in vars(x))


def test_neutropenia_data_of_another_tool():
    if not TORSTEN.exists():
        pytest.skip(f"{TORSTEN.name} is not here: it lies beside the repository, in shared/data")
    data = read_patients(TORSTEN, DVID)
    assert len(data.ids) == 5
    assert data.doses().tolist() == [15] * 5
    assert data.observations["observable"].value_counts().to_dict() == {"concentration": 265, "anc": 145}
    assert data.covariates["WT"].between(60.0, 100.0).all()
    raw = pd.read_csv(TORSTEN, na_values=".")
    raw = raw[raw["EVID"] == 0]
    np.testing.assert_array_equal(data.observations["value"], raw["DV"])
    np.testing.assert_array_equal(data.observations["source_row"], raw.index + 2)


def test_large_tables_take_seconds(tmp_path):
    n, rows = 5_000, 100
    rng = np.random.default_rng(1)
    dose = np.tile(np.arange(rows) % 2 == 0, n)
    frame = pd.DataFrame({
        "ID": np.repeat(np.arange(1, n + 1), rows), "TIME": np.tile(12.0 * np.arange(rows), n),
        "AMT": np.where(dose, "100", "."), "EVID": dose.astype(int), "CMT": np.where(dose, 1, 2),
        "DV": np.where(dose, ".", np.round(rng.lognormal(1.0, 0.5, n * rows), 5).astype(str)),
        "DVID": np.where(dose, ".", "2"), "WT": np.repeat(rng.integers(50, 100, n), rows),
    })  # fmt: skip
    path = tmp_path / "large.csv"
    frame.to_csv(path, index=False)
    start = time.perf_counter()
    data = read_nonmem(path, DVID)
    seconds = time.perf_counter() - start
    assert len(data.observations) == n * rows // 2
    assert seconds < 30.0, f"{seconds:.1f} s"  # 3 to 6 s alone; other work may share the cores


LINES = GOOD.splitlines()
CELLS = st.sampled_from(
    ["", ".", "-1", "0", "1", "2", "9", "1e999", "nan", "inf", "x", "10:30", "2026-01-02", "1,5", "=1+1", '"', "\n", "4.5", "1e5", "-2", "é"]
)  # fmt: skip


@st.composite
def corrupted(draw) -> str:
    rows = [line.split(",") for line in LINES]
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["cell", "drop", "double", "shuffle", "rename", "cut"]))
        i = draw(st.integers(1, len(rows) - 1)) if len(rows) > 1 else 0
        j = draw(st.integers(0, len(rows[0]) - 1))
        if kind == "cell" and j < len(rows[i]):
            rows[i][j] = draw(CELLS)
        elif kind == "drop" and len(rows) > 1:
            del rows[i]
        elif kind == "double":
            rows.insert(i, list(rows[i]))
        elif kind == "shuffle":
            rows[1:] = draw(st.permutations(rows[1:]))
        elif kind == "rename":
            rows[0][j] = draw(st.sampled_from(["", "id", "DATE", "TIME", "time", "X", "Limit", "UNIT", "dv", "BLQ"]))
        elif kind == "cut":
            rows[i] = rows[i][:j]
    return "\n".join(",".join(r) for r in rows)


@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=corrupted(), known=st.booleans())
def test_random_damage_is_told_or_read(tmp_path, text, known):
    path = write(tmp_path, text)
    try:
        data = read_nonmem(path, DVID if known else None)
    except InputError as error:
        assert str(error)
        assert len(str(error).splitlines()) <= 21
        assert all(str(path) in line or line.startswith("and ") for line in str(error).splitlines())
    else:
        # What is read is what the engine takes: every observation row has its record.
        schedule(data.records)
        assert sum(int((r.evid == 0).sum()) for r in data.records) == len(data.observations)
