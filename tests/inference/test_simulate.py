"""`mezikd simulate` as a command: same seed, same bytes; complete or not there; what it says of bad input."""

import hashlib
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr
from mezikd.inference import commands_simulate, virtual_tables
from mezikd.inference.commands import BAD_INPUT, DONE, built_in_fit, run
from mezikd.inference.posterior_file import load
from mezikd.inference.scenario_files import read_scenarios
from mezikd.inference.scenarios import described, fitted_of
from mezikd.inference.table_columns import TABLES

SMALL = ["--patients", "24", "--arm", "mezikd"]


def simulate(out: Path, *more: str) -> int:
    return run(["simulate", *SMALL, "--out", str(out), *more])


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("simulate") / "first"
    assert simulate(out) == DONE
    return out


def test_files(written):
    assert {p.name for p in written.iterdir()} == {"define.md", *(f"{name}.csv" for name in TABLES)}
    assert [p.name for p in written.parent.iterdir()] == ["first"]
    define = (written / "define.md").read_text()
    for name, (_, columns) in TABLES.items():
        assert f"## {name}.csv" in define
        assert all(f"| {c.name} | " in define for c in columns)
        assert list(pd.read_csv(written / f"{name}.csv", nrows=1).columns) == [c.name for c in columns]
    for words in (
        "no patient data", "| Seed | 1 |", "posterior mean", "no: regimen and regions are the fitted ones", "adpc", "maximum_delay_days = no limit",
        "ec50_tumour", "jax ", "arrest alone; predictions also draw from arrest, no tumour memory;",
        hashlib.sha256((built_in_fit() / "posterior.nc").read_bytes()).hexdigest(),
    ):  # fmt: skip
        assert words in define, words


def test_same_seed_same_bytes(written, tmp_path):
    assert simulate(tmp_path / "again") == DONE
    assert digest(tmp_path / "again") == digest(written)
    assert simulate(tmp_path / "other", "--seed", "2") == DONE
    assert all(digest(tmp_path / "other")[k] != v for k, v in digest(written).items())


def test_another_regimen_is_extrapolated(tmp_path, capsys):
    assert (
        simulate(tmp_path / "out", "--dose", "0.6", "--days-on", "7", "--cycle-days", "14", "--draw", "random") == DONE
    )
    assert "extrapolated" in capsys.readouterr().err
    define = (tmp_path / "out" / "define.md").read_text()
    assert "yes: no reported number" in define and "0.6 mg, days 1-7 of 14" in define and "chosen at random" in define
    doses = pd.read_csv(tmp_path / "out" / "adex.csv")
    assert ((doses["ASTDY"] - 1) % 14 + doses["NDAYS"]).max() == 7 and doses["PLANDOSE"].eq(0.6).all()


@pytest.mark.parametrize(
    ("file", "name", "said"),
    [("rules", "hold below 1.0", "hold_below = 1.0"), ("gcsf", "G-CSF primary", "policy = primary")],
)
def test_a_scenario_of_a_file(written, file, name, said, tmp_path, capsys):
    """Rules and G-CSF change the course of the same patients, and define.md says which they are."""
    full = next(line for line in names_of(file) if line.endswith(name))
    assert simulate(tmp_path / "out", "--scenarios", file, "--scenario", full) == DONE
    assert "extrapolated" in capsys.readouterr().err
    assert said in (tmp_path / "out" / "define.md").read_text()
    ours, fitted = (pd.read_csv(d / "adlb.csv") for d in (tmp_path / "out", written))
    assert not ours.equals(fitted)


def names_of(file: str) -> list[str]:
    """Return the names of a shipped file's scenarios."""
    _, problem = load(built_in_fit() / "posterior.nc")
    return [s.name for s in described(read_scenarios(Path(file), {}), fitted_of(problem))]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenarios", "rules"], "--scenario: missing"),
        (["--scenario", "x"], "--scenario: given without --scenarios"),
        (["--scenarios", "rules", "--scenario", "nothing"], "is not in the file"),
        (["--scenarios", "nowhere"], "is neither a file nor a shipped one"),
        (["--scenarios", "rules", "--dose", "0.6"], "--scenarios: given beside a regimen"),
        (["--scenarios", "rules", "--arm", "kd"], "--arm"),
    ],
)
def test_bad_scenario(arguments, said, tmp_path, capsys):
    assert simulate(tmp_path / "out", *arguments) == BAD_INPUT
    line = capsys.readouterr().err
    assert said in line and len(line.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_parquet_holds_the_same(written, tmp_path):
    pytest.importorskip("pyarrow")
    assert simulate(tmp_path / "out", "--format", "parquet") == DONE
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"define.md", "nonmem.csv", *(f"{name}.parquet" for name in TABLES if name != "nonmem")}
    for name in ("adsl", "adex", "adlb", "adae", "adtte"):
        ours = pd.read_parquet(tmp_path / "out" / f"{name}.parquet")
        ours.to_csv(tmp_path / "as.csv", index=False)
        assert (tmp_path / "as.csv").read_bytes() == (written / f"{name}.csv").read_bytes()
    assert "## adsl.parquet" in (tmp_path / "out" / "define.md").read_text()


def test_tables_are_replaced_only_on_request(written, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()  # an empty folder is as good as none
    assert simulate(out) == DONE
    before = digest(out)
    assert simulate(out, "--seed", "2") == BAD_INPUT
    assert "--overwrite" in capsys.readouterr().err and digest(out) == before
    assert simulate(out, "--seed", "2", "--overwrite") == DONE
    assert digest(out) != before and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_other_files_are_never_replaced(tmp_path, capsys):
    (tmp_path / "posterior.nc").write_text("mine")
    assert simulate(tmp_path, "--overwrite") == BAD_INPUT
    assert "posterior.nc" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.nc"]


def test_a_failure_leaves_what_was_there(written, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert simulate(out) == DONE
    before = digest(out)

    def fails(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(virtual_tables.pd.DataFrame, "to_csv", fails)
    assert simulate(out, "--overwrite") == BAD_INPUT
    assert digest(out) == before and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_texts_of_the_fit_stay_in_their_cell(tmp_path):
    with xr.open_datatree(built_in_fit() / "posterior.nc", engine="h5netcdf") as opened:
        tree = opened.load()
    name = "<script>a|b</script>, `x`"
    tree.attrs["settings"] = str(tree.attrs["settings"]).replace('"name":"SUCCESSOR-2"', f'"name":"{name}"')
    tree.to_netcdf(tmp_path / "fit.nc", engine="h5netcdf")
    assert simulate(tmp_path / "out", str(tmp_path / "fit.nc")) == DONE
    define = (tmp_path / "out" / "define.md").read_text()
    assert "<script>" not in define and "a\\|b" in define
    assert set(pd.read_csv(tmp_path / "out" / "adsl.csv")["STUDYID"]) == {f"SIMULATED {name}"}


BAD = {
    "unknown format": ("--format xlsx", ("--format", "'xlsx'", "csv, parquet")),
    "unknown arm": ("--arm placebo", ("--arm", "'placebo'", "mezikd, kd, both")),
    "unknown draw": ("--draw mean", ("--draw", "'mean'", "did you mean posterior-mean")),
    "unknown region": ("--region japan", ("--region", "'japan'", "usa, europe, asia, rest_of_world")),
    "region in capitals": ("--region USA", ("--region", "did you mean usa")),
    "no patients": ("--patients 0", ("--patients", "value 0", "1 to 10000")),
    "too many patients": ("--patients 10001", ("--patients", "10001", "1 to 10000")),
    "negative seed": ("--seed -1", ("--seed", "value -1", "0 to")),
    "negative dose": ("--dose -0.6", ("--dose", "value -0.6", "above 0")),
    "no dose": ("--dose 0", ("--dose", "value 0", "above 0")),
    "dose not a number": ("--dose nan", ("--dose", "value nan", "above 0")),
    "too high a dose": ("--dose 11", ("--dose", "11", "at most 10")),
    "dose as text": ("--dose much", ("--dose", "mezikd simulate --help")),
    "no days on": ("--days-on 0", ("--days-on", "value 0", "1 to 84")),
    "days on beyond the cycle": ("--days-on 29", ("--days-on", "29", "cycle of 28 days")),
    "cycle shorter than days on": ("--cycle-days 14", ("--cycle-days", "21", "cycle of 14 days")),
    "cycle not in weeks": ("--cycle-days 30", ("--cycle-days", "value 30", "multiple of 7")),
    "dose intensity in percent": ("--rdi 80", ("--rdi", "value 80", "0.8 for 80 %")),
    "regimen of the control arm": ("--arm kd --dose 0.6", ("--arm", "no mezigdomide")),
    "no such fit": ("nowhere", ("nowhere", "no such file")),
    "unknown option": ("--doses 1", ("--doses", "mezikd simulate --help")),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD.keys())
def test_bad_input(tmp_path, capsys, arguments, words):
    assert run(["simulate", "--out", str(tmp_path / "out"), *arguments.split()]) == BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith("mezikd: ") and said.count("\n") == 1
    assert all(w in said for w in words), said
    assert not list(tmp_path.iterdir())


def test_parquet_without_pyarrow(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands_simulate, "find_spec", lambda name: None)
    assert run(["simulate", "--out", str(tmp_path / "out"), "--format", "parquet"]) == BAD_INPUT
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "pip install" in said and "--format csv" in said


def test_out_is_a_file(tmp_path, capsys):
    (tmp_path / "out").write_text("x")
    assert run(["simulate", "--out", str(tmp_path / "out")]) == BAD_INPUT
    assert "is a file" in capsys.readouterr().err
