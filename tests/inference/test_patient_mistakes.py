"""Mistakes in patients' own tables: each one line with file, row, patient, column, value and remedy."""

import gzip
from pathlib import Path

import pandas as pd
import pytest
from mezikd.inference import commands
from mezikd.inference.errors import InputError
from mezikd.inference.patient_tables import read_patients

DVID = {1: "concentration", 2: "anc"}
HEADER = "ID,TIME,AMT,RATE,II,ADDL,SS,EVID,CMT,DV,MDV,DVID,CENS,LLOQ,WT"
DOSE = "1,0,100,0,24,6,0,1,1,.,1,.,.,.,70"
SEEN = "1,24,.,.,.,.,.,0,2,3.5,0,2,0,.,70"
COLUMNS = HEADER.split(",")


def row(base: str, **changes: str) -> str:
    cells = dict(zip(COLUMNS, base.split(","), strict=True)) | changes
    return ",".join(cells.values())


def table(*rows: str, header: str = HEADER) -> bytes:
    return ("\n".join([header, *rows]) + "\n").encode()


def d(**changes: str) -> str:
    return row(DOSE, **changes)


def s(**changes: str) -> str:
    return row(SEEN, **changes)


CASES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "dose without AMT": (table(d(AMT="."), s()), ("line 2, patient 1, column AMT", "'.' on a dose", "give the dose")),
    "dose of 0": (table(d(AMT="0"), s()), ("line 2", "column AMT", "'0' on a dose", "above 0")),
    "AMT on an observation": (table(d(), s(AMT="5")), ("line 3, patient 1, column AMT", "5", "an observation (EVID 0)", "EVID 1")),
    "negative AMT": (table(d(AMT="-5"), s()), ("line 2", "column AMT", "'-5'", "0 or more")),
    "time goes back": (table(d(), s(), s(TIME="12")), ("line 4", "column TIME", "12 goes back from 24", "EVID 3 or 4")),
    "duplicate visit": (table(d(), s(), s(DV="3.6")), ("line 4", "column TIME", "a second anc", "keep one")),
    "negative ANC": (table(d(), s(DV="-1")), ("line 3", "column DV", "-1 of anc", "CENS 1 with LLOQ")),
    "ANC of 0": (table(d(), s(DV="0")), ("line 3", "column DV", "0 of anc", "above 0")),
    "cells/uL": (table(d(), s(DV="3500"), s(TIME="48", DV="900")), ("column DV", "median 2200", "cells/uL", "1e-3")),
    "two units": (table(d(), s(), s(TIME="36"), s(TIME="48", DV="900")), ("line 5", "column DV", "'900'", "two units", "1e-3")),
    "unknown CMT": (table(d(CMT="3"), s()), ("line 2", "column CMT", "compartment '3'", "1: depot, 2: central")),
    "compartment turned off": (table(d(CMT="-1"), s()), ("line 2", "column CMT", "'-1'", "not supported")),
    "unknown DVID": (table(d(), s(DVID="7")), ("line 3", "column DVID", "'7'", "--dvid")),
    "no DVID": (table(d(), s(DVID=".")), ("line 3", "column DVID", "'.' on an observation", "kind of observation")),
    "patient without dose": (table(d(), s(), s(ID="2")), ("line 4, patient 2", "no dose", "--undosed")),
    "patient without observation": (table(d(), s(), d(ID="2")), ("line 4, patient 2", "no observation", "delete the patient")),
    "mixed-case names": (table(f"{d()},1", f"{s()},1", header=f"{HEADER},Id"), ("column ID", "2 times (ID, Id)", "keep one")),
    "column twice": (table(f"{d()},1", f"{s()},1", header=f"{HEADER},WT"), ("column WT", "2 times", "rename")),
    "column without name": (table(f"{d()},", f"{s()},", header=f"{HEADER},"), ("columns without a name: 16", "commas at the end")),
    "DV text": (table(d(), s(DV="BLQ")), ("line 3", "column DV", "'BLQ'", "not a number")),
    "NA": (table(d(), s(DV="NA")), ("line 3", "column DV", "'NA'", ". or blank")),
    "latin-1": (table(d(ID="J\xf6rg"), s()).replace("ö".encode(), b"\xf6"), ("line 2", "UTF-8")),
    "UTF-16": (table(d(), s()).decode().encode("utf-16"), ("UTF-8", "save it as")),
    "empty file": (b"", ("the file is empty", "header and rows")),
    "header only": (table(), ("a header but no rows", "give it rows")),
    "missing column": (table("1,0,100", header="ID,TIME,AMT"), ("column DV", "missing", "add it")),
    "ADDL without II": (table(d(II="0"), s()), ("line 2", "column II", "'0'", "ADDL", "interval")),
    "SS without II": (table(d(II=".", ADDL="0", SS="1"), s()), ("line 2", "column II", "'.'", "SS asks", "SS 0")),
    "RATE -2": (table(d(RATE="-2"), s()), ("line 2", "column RATE", "'-2'", "not supported", "rate of the infusion")),
    "RATE into the depot": (table(d(RATE="10"), s()), ("line 2", "column RATE", "'10'", "depot", "CMT 2")),
    "RATE on an observation": (table(d(), s(RATE="10")), ("line 3", "column RATE", "10 on an observation", "leave it blank")),
    "long infusion at steady state": (
        table(d(CMT="2", RATE="1", II="24", ADDL="0", SS="1"), s()), ("line 2", "column RATE", "'1'", "longer than II"),
    ),
    "EVID 5": (table(d(EVID="5"), s()), ("line 2", "column EVID", "'5'", "0, 1, 2, 3, 4")),
    "SS 3": (table(d(SS="3"), s()), ("line 2", "column SS", "'3'", "0, 1, 2")),
    "MDV against EVID": (table(d(MDV="0"), s()), ("line 2", "column MDV", "0 on a dose (EVID 1)", "give 1")),
    "MDV 2": (table(d(), s(MDV="2")), ("line 3", "column MDV", "'2'", "0, 1")),
    "observation without DV": (table(d(), s(DV=".")), ("line 3", "column DV", "'.'", "MDV 1")),
    "ADDL of 2.5": (table(d(ADDL="2.5"), s()), ("line 2", "column ADDL", "2.5", "whole number")),
    "NaN": (table(d(), s(DV="nan")), ("line 3", "column DV", "'nan'", "no nan or inf")),
    "infinity": (table(d(), s(TIME="inf")), ("line 3", "column TIME", "'inf'", "no nan or inf")),
    "covariate changes": (table(d(), s(WT="71")), ("line 3", "column WT", "'71', but '70' before", "not supported")),
    "BLQ for CENS": (table(f"{d()},0", f"{s()},1", header=f"{HEADER},BLQ"), ("column BLQ", "did you mean CENS")),
    "ID missing": (table(d(), s(ID="")), ("line 3", "column ID", "'.'", "give the patient's ID")),
    "IDs not contiguous": (
        table(d(), s(), d(ID="2"), s(ID="2"), s(TIME="48")), ("line 6, patient 1, column ID", "again", "sort the file"),
    ),
    "weight 0": (table(d(WT="0"), s(WT="0")), ("line 2", "column WT", "'0'", "above 0")),
    "text in a number covariate": (
        table(d(), s(), d(ID="2", WT="heavy"), s(ID="2", WT="70")), ("line 4, patient 2, column WT", "'heavy'", "finite number"),
    ),
    "CENS 2": (table(d(), s(CENS="2")), ("line 3", "column CENS", "'2'", "0, 1")),
    "CENS without limit": (table(d(), s(CENS="1", DV=".")), ("line 3", "column LLOQ", "neither LLOQ nor DV", "in LLOQ")),
    "CENS with DV 0": (table(d(), s(CENS="1", DV="0")), ("line 3", "column DV", "'0' with CENS 1", "limit in LLOQ")),
    "below LLOQ without CENS": (table(d(), s(LLOQ="5")), ("line 3", "column DV", "3.5 lies below LLOQ 5", "CENS 1")),
    "above LLOQ with CENS": (table(d(), s(LLOQ="1", CENS="1")), ("line 3", "column DV", "3.5 lies above LLOQ 1", "CENS 0")),
    "clock time": (table(d(TIME="08:30"), s()), ("line 2", "column TIME", "'08:30'", "clock time", "hours or days")),
    "date in TIME": (table(d(TIME="2026-01-05"), s()), ("line 2", "column TIME", "'2026-01-05'", "dates are not read")),
    "negative TIME": (table(d(TIME="-24"), s()), ("line 2", "column TIME", "'-24'", "0 or more", "count TIME")),
    "no TIME": (table(d(), s(TIME=".")), ("line 3", "column TIME", "without time", "give its time")),
    "DATE column": (table(f"{d()},1", f"{s()},1", header=f"{HEADER},DATE"), ("column DATE", "dates are not read", "TIME in hours")),
    "semicolons": (table(d(), s()).replace(b",", b";"), ("line 1", "semicolons", "comma-separated")),
    "unit of another kind": (
        table(f"{d()},mg", f"{s()},cells/uL", header=f"{HEADER},DVU"), ("line 3", "column DVU", "'cells/uL'", "1e-3"),
    ),
    "two units of concentration": (
        table(f"{d()},mg", f"{s(DVID='1')},ng/mL", f"{s(DVID='1', TIME='30')},ug/mL", header=f"{HEADER},UNIT"),
        ("line 4", "column UNIT", "'ug/mL'", "one unit"),
    ),
    "row too long": (table(d(), s() + ",7"), ("line 3", "16 cells instead of 15", "double quotes")),
    "open quotes": (table(d(), s() + ',"x'), ("not readable as CSV", "close the double quotes")),
}  # fmt: skip


@pytest.mark.parametrize(("data", "words"), CASES.values(), ids=CASES)
def test_mistake(tmp_path, data, words):
    path = tmp_path / "trial.csv"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_patients(path, DVID)
    (line,) = [x for x in str(caught.value).splitlines() if all(w in x for w in words)] or [str(caught.value)]
    assert [w for w in (str(path), *words) if w not in line] == []


def test_good_rows_are_good(tmp_path):
    path = tmp_path / "trial.csv"
    path.write_bytes(table(d(), s()))
    assert read_patients(path, DVID).doses().tolist() == [7]


def test_all_at_once_and_no_more_than_twenty(tmp_path, capsys):
    path = tmp_path / "trial.csv"
    many = [s(TIME=str(30 + i), DV="-1") for i in range(40)]
    path.write_bytes(table(d(AMT="."), s(CENS="2"), *many, d(ID="2", CMT="9"), s(ID="2", DVID="5")))
    out = tmp_path / "out"
    code = commands.run(["tables", str(path), "--dvid", "1=concentration,2=anc", "--out", str(out)])
    lines = capsys.readouterr().err.splitlines()
    assert code == commands.BAD_INPUT
    assert len(lines) == 21
    # 1 AMT, 1 CENS, 40 DV, 1 CMT, 1 DVID: the one that is made forty times does not hide the others.
    assert lines[-1] == "mezikd: and 24 more"
    assert all(any(f"column {c}" in line for line in lines) for c in ("AMT", "CENS", "DV", "CMT", "DVID"))
    assert not out.exists()


def test_what_is_observed_must_be_said(tmp_path):
    path = tmp_path / "trial.csv"
    path.write_bytes(table(d(), s()))
    with pytest.raises(InputError, match=r"column DVID: what is observed is not said \(codes 2\).*--dvid"):
        read_patients(path)


@pytest.mark.parametrize("name", ["trial.csv.gz", "trial.parquet", "trial.xpt"])
def test_cut_files(tmp_path, name):
    path = tmp_path / name
    plain = table(d(), s())
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(plain)[:-12])
    elif name.endswith(".parquet"):
        frame = pd.DataFrame({"ID": [1, 1], "TIME": [0.0, 1.0], "AMT": [1.0, None], "DV": [None, 2.0]})
        frame.to_parquet(path, engine="pyarrow")
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.write_bytes(b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!" + b"0" * 30 + b"  " + b"x" * 33)
    with pytest.raises(InputError, match=r"damaged or not whole.*copy or write it anew"):
        read_patients(path, DVID)


@pytest.mark.parametrize(
    ("name", "words"),
    [("trial.xlsx", "not a kind of table"), ("none.csv", "no such file"), ("empty", "none of the tables")],
)
def test_what_is_no_table(tmp_path, name, words):
    path = tmp_path / name
    if name == "empty":
        path.mkdir()
    elif name == "trial.xlsx":
        path.write_bytes(b"PK")
    with pytest.raises(InputError, match=words):
        read_patients(path)


@pytest.mark.parametrize(
    ("text", "words"), [("1", "CODE=OBSERVABLE"), ("1=platelets", "'platelets' is not known"), ("1=anc,1=anc", "twice")]
)
def test_dvid_option(tmp_path, capsys, text, words):
    path = tmp_path / "trial.csv"
    path.write_bytes(table(d(), s()))
    assert commands.run(["tables", str(path), "--dvid", text]) == commands.BAD_INPUT
    error = capsys.readouterr().err
    assert "--dvid" in error
    assert words in error
    assert error.count("\n") == 1


def test_places_in_a_fit_folder_are_left_alone(tmp_path: Path):
    folder = tmp_path / "fit"
    folder.mkdir()
    (folder / "adsl.csv").write_text("USUBJID\n1\n")
    with pytest.raises(InputError, match="nothing observed"):
        read_patients(folder)
