"""A mistake in a fit's files or on the command line: one line that names it, and exit code 2."""

import csv
import errno
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from mezikd.inference import commands, places

Edit = Callable[[bytes], bytes]
FILES = ("fit.toml", "evidence.csv", "priors.csv")
ASIA = ("neutropenia_g34", "mezikd", "asia")
ALL = ("neutropenia_g34", "mezikd", "all")
KD = ("neutropenia_g34", "kd", "all")
RDI = ("rdi_mezigdomide", "mezikd", "all")
HOLD = ("hold_mezigdomide_neutropenia", "mezikd", "all")
PFS = ("pfs_median", "mezikd", "all")
HR = ("pfs_hr", "mezikd_vs_kd", "all")


def swap(old: str, new: str) -> Edit:
    def edit(data: bytes) -> bytes:
        assert old.encode() in data, old
        return data.replace(old.encode(), new.encode(), 1)

    return edit


def cell(key: tuple[str, str, str], **changes: str) -> Edit:
    def edit(data: bytes) -> bytes:
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        (row,) = [r for r in rows if (r["id"], r["arm"], r["subgroup"]) == key]
        row.update(changes)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()

    return edit


def append(line: str) -> Edit:
    return lambda data: data + line.encode() + b"\n"


def becomes(data: bytes) -> Edit:
    return lambda _: data


EVIDENCE: dict[str, tuple[Edit, tuple[str, ...]]] = {
    # one cell
    "text for a number": (cell(ASIA, value="many"), ("line 4", "column value", "'many'", "decimal point")),
    "decimal comma": (cell(PFS, value="18,0"), ("row pfs_median", "column value", "'18,0'", "decimal point")),
    "middle dot": (cell(PFS, low="14·5"), ("column low", "'14·5'", "decimal point")),
    "thousands": (cell(ASIA, denominator="1,088"), ("column denominator", "'1,088'", "whole number")),
    "percent sign": (cell(RDI, value="83%"), ("column value", "'83%'", "no unit")),
    "nan": (cell(PFS, value="nan"), ("column value", "'nan'", "no nan or inf")),
    "infinity": (cell(PFS, high="inf"), ("column high", "'inf'", "NR")),
    "overflow": (cell(PFS, high="1e999"), ("column high", "'1e999'", "no nan or inf")),
    "blank value": (cell(ASIA, value=""), ("line 4", "column value", "a number")),
    "unknown arm": (cell(KD, arm="placebo"), ("line 7", "column arm", "'placebo'", "mezikd, kd, both")),
    "unknown subgroup": (cell(ASIA, subgroup="japan"), ("column subgroup", "'japan'", "rest_of_world")),
    "unknown statistic": (cell(KD, statistic="mean"), ("column statistic", "'mean'", "quartiles")),
    "unknown interval": (
        cell(PFS, interval="ci90"),
        ("column interval", "'ci90'", "ci95, iqr, sd, sem, none"),
    ),
    "unknown role": (cell(KD, role="use"), ("column role", "'use'", "fit, check")),
    "id with a space": (cell(KD, id="neutro g34"), ("column id", "'neutro g34'", "letters, digits and _")),
    "no source": (cell(KD, where=""), ("column where", "say where in the source")),
    # one row
    "unknown outcome": (
        cell(KD, outcome="neutropenia grade 3 or 5"),
        (
            "row neutropenia_g34/kd/all",
            "column outcome",
            "nearest: 'neutropenia grade 3 or 4'",
            "overall survival",
        ),
    ),
    "statistic of another outcome": (cell(KD, statistic="median"), ("column statistic", "allowed: count")),
    "region of an arm without regions": (cell(KD, subgroup="asia"), ("column subgroup", "allowed: all")),
    "wrong unit": (cell(PFS, unit="days"), ("column unit", "'days'", "allowed: months")),
    "check-only outcome fitted": (
        cell(("infection_fatal", "kd", "all"), role="fit"),
        ("row infection_fatal/kd/all", "column role", "allowed: check"),
    ),
    "fitted in an arm without that course": (
        cell(("neutropenia_duration", "kd", "all"), role="fit"),
        ("row neutropenia_duration/kd/all", "column role", "allowed: check"),
    ),
    "count above denominator": (
        cell(ASIA, value="89"),
        ("line 4", "column value", "89", "0 to 88", "patients"),
    ),
    "fraction of a patient": (
        cell(ASIA, value="0.81"),
        ("column value", "0.81", "whole number", "percentage"),
    ),
    "negative count": (cell(KD, value="-1"), ("column value", "-1", "0 to 186")),
    "count without denominator": (cell(KD, denominator=""), ("column denominator", "blank")),
    "denominator not a size": (
        cell(KD, denominator="200"),
        ("line 7", "column denominator", "200", "186 or 191", "fit.toml"),
    ),
    "denominator not the region's": (
        cell(ASIA, denominator="90"),
        ("column denominator", "90", "allowed: 88"),
    ),
    "quartiles out of order": (cell(RDI, low="90"), ("column low", "90", "83", "low < value < high")),
    "value above its interval": (cell(HR, value="0.84"), ("row pfs_hr", "column high", "0.63", "0.84")),
    "percent above 100": (cell(RDI, high="940"), ("column high", "940 percent", "at most 100")),
    "hazard ratio of zero": (cell(HR, low="0"), ("column low", "value 0 ratio", "above 0")),
    "quartiles with a confidence interval": (cell(RDI, interval="ci95"), ("column interval", "allowed: iqr")),
    "fitted median without interval": (
        cell(PFS, interval="none", low="", high=""),
        ("column interval", "allowed: ci95"),
    ),
    "one bound": (cell(PFS, low=""), ("column low", "blank", "both bounds")),
    "bounds without interval": (cell(KD, low="10"), ("column low", "interval none", "leave it blank")),
    "fitted median not reached": (cell(PFS, value="NR"), ("column value", "NR", "check rows")),
    "count not reached": (cell(KD, value="NR"), ("column value", "NR")),
    # several rows
    "row twice": (
        append("neutropenia_g34,kd,all,neutropenia grade 3 or 4,count,17,,,none,186,patients,x,fit,"),
        ("line 59", "column id", "line 7", "delete one"),
    ),
    "number twice under another id": (
        append("neutro,kd,all,neutropenia grade 3 or 4,count,17,,,none,186,patients,x,fit,"),
        ("line 59", "row neutro/kd/all", "line 7"),
    ),
    "id with two meanings": (
        cell(("followup", "both", "all"), id="pfs_events"),
        ("row pfs_events/both/all", "column id", "its own id"),
    ),
    "regions do not add up": (cell(ALL, value="177"), ("line 6", "column value", "177", "176")),
    "whole fitted beside regions": (cell(ALL, role="fit"), ("line 6", "column role", "asia", "twice")),
    "part above its whole": (cell(HOLD, value="177"), ("row hold_mez", "column value", "177", "0 to 176")),
    "parts do not add up": (
        cell(("infection_worst_g3", "kd", "all"), value="27"),
        ("row infection_g34/kd/all", "column value", "add up to 28"),
    ),
    "given missing": (cell(HOLD, given=""), ("row hold_mez", "column given", "neutropenia_g34")),
    "given unknown": (
        cell(HOLD, given="neutropenia"),
        ("column given", "'neutropenia'", "allowed: neutropenia_g34"),
    ),
    "given out of place": (cell(RDI, given="neutropenia_g34"), ("column given", "leave it blank")),
    "quartiles of other patients": (
        cell(("infection_g34_onset", "kd", "all"), denominator="30"),
        ("row infection_g34_onset/kd/all", "column denominator", "30", "29 (infection_g34)"),
    ),
    "nothing fitted": (
        lambda data: data.replace(b",fit,", b",check,"),
        ("column role", "no row has the role fit"),
    ),
    # the file
    "semicolons": (lambda data: data.replace(b",", b";"), ("line 1", "semicolons", "commas")),
    "tabs": (lambda data: data.replace(b",", b"\t"), ("line 1", "tabs", "commas")),
    "missing column": (
        swap(",role,given", ",given"),
        ("line 1", "column role", "missing", "id,arm,subgroup"),
    ),
    "unknown column": (swap(",denominator,", ",n,"), ("line 1", "column n", "unknown", "denominator")),
    "column twice": (swap("given\n", "given,role\n"), ("line 1", "column role", "2 times")),
    "unquoted comma": (
        swap('"Results, primary endpoint"', "Results, primary endpoint"),
        ("pfs_median", "double quotes"),
    ),
    "open quotes": (swap('"Results, primary endpoint"', '"Results'), ("not readable as CSV", "quotes")),
    "empty file": (becomes(b""), ("empty", "id,arm,subgroup")),
    "header alone": (lambda data: data.splitlines()[0], ("there is no row",)),
    "UTF-16": (lambda data: data.decode().encode("utf-16"), ("UTF-8",)),
    "Latin-1": (lambda data: data + "é".encode("latin-1"), ("line 59", "UTF-8")),
    "NUL bytes": (append("a\0b"), ("line 59", "NUL", "UTF-8")),
}

PRIORS: dict[str, tuple[Edit, tuple[str, ...]]] = {
    "unknown parameter": (append("ec5,0.3,0.5,x"), ("line 2", "row ec5", "column name", "nearest: ec50")),
    "negative spread": (
        append("ec50,0.3,-0.5,x"),
        ("line 2", "row ec50", "column spread", "'-0.5'", "above 0"),
    ),
    "zero spread": (append("ec50,0.3,0,x"), ("column spread", "'0'", "above 0")),
    "spread missing": (append("ec50,0.3,,x"), ("column spread", "blank", "SD")),
    "centre outside support": (append("ec50,0,0.5,x"), ("column centre", "value 0", "above 0")),
    "share above one": (append("emax,1.2,0.5,x"), ("row emax", "column centre", "1.2", "below 1")),
    "centre nan": (append("ec50,nan,0.5,x"), ("column centre", "'nan'", "no nan or inf")),
    "prior twice": (append("ec50,0.3,0.5,x\nec50,0.3,0.5,x"), ("line 3", "column name", "twice")),
    "spread of a fixed parameter": (
        append("theta,0.97,0.5,x"),
        ("row theta", "column spread", "fixed", "blank"),
    ),
    "prior without source": (append("ec50,0.3,0.5,"), ("column source", "where this prior comes from")),
    "priors header": (swap("spread", "sd"), ("line 1", "column sd", "unknown", "name,centre,spread,source")),
}

SETTINGS: dict[str, tuple[Edit, tuple[str, ...]]] = {
    "unknown key": (swap("chains", "chain"), ("line 43", "`sampler.chain`", "did you mean `chains`")),
    "unknown section": (swap("[sampler]", "[sampling]"), ("line 42", "`sampling`", "did you mean `sampler`")),
    "missing key": (
        swap("dose_mg = 1.0", ""),
        ("line 17", "`regimen.dose_mg` is missing", "under [regimen]"),
    ),
    "missing section": (swap("[trial.kd]", "[trial.kd2]"), ("`trial.kd` is missing",)),
    "not TOML": (swap("draws = 400", "draws 300"), ("line 45", "not TOML", "key = value")),
    "number as text": (
        swap("chains = 4", 'chains = "4"'),
        ("`sampler.chains`", "'4'", "1 to 64", "chains = 4"),
    ),
    "no chains": (swap("chains = 4", "chains = 0"), ("line 43", "`sampler.chains`", "value 0", "1 to 64")),
    "nan in settings": (swap("dose_mg = 1.0", "dose_mg = nan"), ("`regimen.dose_mg`", "nan", "at most 10")),
    "negative dose": (swap("dose_mg = 1.0", "dose_mg = -1"), ("`regimen.dose_mg`", "-1", "above 0")),
    "more days on than a cycle has": (
        swap("days_on = 21", "days_on = 29"),
        ("line 19", "29", "cycle of 28 days"),
    ),
    "cycle not in weeks": (
        swap("cycle_days = 28", "cycle_days = 30"),
        ("`regimen.cycle_days`", "30", "multiple of 7"),
    ),
    "levels ascending": (
        swap("[1.0, 0.6, 0.3]", "[0.3, 0.6]"),
        ("`regimen.levels_mg`", "descending", "[1.0, 0.6, 0.3]"),
    ),
    "visit between weeks": (
        swap("[1, 15]", "[1, 14]"),
        ("`visits.later_days`", "14", "multiple of 7", "[1, 15]"),
    ),
    "visit after the cycle": (swap("[1, 15]", "[1, 36]"), ("`visits`", "beyond the cycle of 28 days")),
    "unknown structure": (swap('"arrest"', '"kill"'), ("`model.structure`", "'kill'", "friberg")),
    "not a power of two": (
        swap("mezikd = 256", "mezikd = 250"),
        ("`patients.mezikd`", "250", "power of two"),
    ),
    "regions of fit.toml": (
        swap("usa = 27", "usa = 26"),
        ("`trial.mezikd.regions`", "287", "288 randomised"),
    ),
    "more treated than randomised": (
        swap("treated = 186", "treated = 195"),
        ("`trial.kd.treated`", "195", "191"),
    ),
    "settings not UTF-8": (lambda data: data + b"# \xe9\n", ("line 50", "UTF-8")),
}

CASES = [
    pytest.param(file, edit, words, id=name)
    for file, table in (("evidence.csv", EVIDENCE), ("priors.csv", PRIORS), ("fit.toml", SETTINGS))
    for name, (edit, words) in table.items()
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the built-in fit."""
    copy = tmp_path / "myfit"
    copy.mkdir()
    for name in FILES:
        shutil.copy(commands.built_in_fit() / name, copy)
    return copy


def assert_one_line(code: int, stderr: str, words: tuple[str, ...]) -> None:
    assert code == commands.BAD_INPUT
    assert stderr.startswith("mezikd: ")
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")
    assert "Traceback" not in stderr
    missing = [w for w in words if w not in stderr]
    assert not missing, f"{missing} not in {stderr}"


@pytest.mark.parametrize(("file", "edit", "words"), CASES)
def test_mistake_in_a_file(folder, capsys, file, edit, words):
    path, out = folder / file, folder.parent / "out"
    path.write_bytes(edit(path.read_bytes()))
    code = commands.run(["fit", str(folder), "--out", str(out)])
    assert_one_line(code, capsys.readouterr().err, (str(path), *words))
    assert not out.exists()


COMMANDS = {
    "no command": ("", ("Missing command", "mezikd --help")),
    "unknown command": ("fti", ("'fti'", "mezikd --help")),
    "no out": ("fit", ("--out", "mezikd fit --help")),
    "unknown option": ("fit --out {out} --chain 4", ("--chain", "mezikd fit --help")),
    "option not a number": ("fit --out {out} --draws many", ("--draws", "mezikd fit --help")),
    "too many folders": ("fit a b --out {out}", ("b", "mezikd fit --help")),
    "zero chains": ("fit --out {out} --chains 0", ("--chains", "value 0", "1 to 64")),
    "negative seed": ("fit --out {out} --seed -1", ("--seed", "-1", "0 to")),
    "virtual patients": (
        "fit --out {out} --virtual-patients 100",
        ("--virtual-patients", "100", "power of two"),
    ),
    "no such folder": ("fit {out}/nowhere --out {out}", ("nowhere", "no such folder", "fit.toml")),
    "folder is a file": ("fit {file} --out {out}", ("is a file", "fit.toml")),
    "folder without fit.toml": ("fit {empty} --out {out}", ("fit.toml", "no such file")),
    "out is a file": ("fit --out {file}", ("--out", "is a file", "name a folder")),
    "out in a missing folder": ("fit --out {out}/a/b", ("--out", "does not exist", "mkdir -p")),
    "no posterior": ("check {empty} --out {out}", ("posterior.nc", "no such file", "mezikd fit --out")),
    "not a posterior": ("check {file} --out {out}", ("not a netCDF file", "mezikd fit --out")),
    "too few trials": ("check --out {out} --trials 0", ("--trials", "value 0", "10 to 100000")),
}


def arguments_for(template: str, tmp_path: Path) -> list[str]:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    places = {"out": tmp_path / "out", "file": tmp_path / "file.txt", "empty": tmp_path / "empty"}
    return [word.format(**places) for word in template.split()]


@pytest.mark.parametrize(("template", "words"), COMMANDS.values(), ids=COMMANDS.keys())
def test_mistake_on_the_command_line(tmp_path, capsys, template, words):
    code = commands.run(arguments_for(template, tmp_path))
    assert_one_line(code, capsys.readouterr().err, words)
    assert not (tmp_path / "out").exists()


def test_out_not_writable(tmp_path, capsys, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(places.tempfile, "TemporaryFile", refuse)
    code = commands.run(["fit", "--out", str(tmp_path / "out")])
    assert_one_line(code, capsys.readouterr().err, ("--out", "not writable", "Permission denied"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["no out", "no such folder", "not a posterior"])
def test_as_a_process(tmp_path, name):
    template, words = COMMANDS[name]
    process = subprocess.run(
        [sys.executable, "-m", "mezikd.inference.commands", *arguments_for(template, tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert_one_line(process.returncode, process.stderr, words)


@pytest.mark.parametrize(("outcome", "code"), [(True, 0), (False, 3), (KeyboardInterrupt, 130)])
def test_exit_codes_of_a_fit(folder, monkeypatch, capsys, outcome, code):
    calls = []

    def run_fit(*arguments):
        calls.append(arguments)
        if outcome is KeyboardInterrupt:
            raise KeyboardInterrupt
        return outcome

    pipeline = ModuleType("pipeline")
    monkeypatch.setattr(pipeline, "run_fit", run_fit, raising=False)
    monkeypatch.setitem(sys.modules, "mezikd.inference.pipeline", pipeline)
    out = folder.parent / "out"
    assert commands.run(["fit", str(folder), "--out", str(out), "--chains", "2", "--restart"]) == code
    assert calls == [(folder, out, {"chains": 2}, True, None)]
    assert capsys.readouterr().err.count("\n") == (code == 130)
