"""Thousands of bad inputs: each ends with one clear line and exit code 2, or is no mistake. The slow version writes fuzz.csv."""

import random
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import fuzz
import numpy as np
import pandas as pd
import pytest
import test_patient_fit
from mezikd.inference import (
    calibrate,
    patient_fit,
    pipeline,
    posterior_file,
    predict,
    programs,
    report,
    sensitivity_run,
    structures_run,
    virtual_tables,
)
from mezikd.inference.commands import BAD_INPUT, DONE, built_in_fit, run
from mezikd.inference.places import POSTERIOR
from mezikd.inference.scenarios import fitted_of, resolve
from mezikd.inference.seal import LENGTH

RESULT = Path(__file__).with_name("fuzz.csv")
CASES = {
    "evidence.csv": 1800, "priors.csv": 900, "fit.toml": 1700, "patients' fit.toml": 900, "scenario file": 1400,
    "NONMEM-style table": 1200, "ADaM-like tables": 500, "posterior file": 600, "command line": 1500,
}  # fmt: skip
"""Cases of the slow version: 10,500."""
QUICK = 25
"""Cases of each kind in the quick version."""
LONGEST = 20.0
"""CPU seconds for one case; more is a hang."""
OPTIONS = {
    "fit": ("--chains", "--warmup", "--draws", "--virtual-patients", "--seed", "--structure", "--tumour", "--infection", "--leave-out",
            "--method", "--device"),
    "check": ("--trials", "--seed"),
    "calibrate": ("--trials", "--seed", "--around", "--widen", "--virtual-patients", "--covariance-trials", "--cluster"),
    "predict": ("--dose", "--days-on", "--cycle-days", "--rdi", "--scenarios", "--draws", "--patients", "--months", "--seed", "--structure",
                "--cluster"),
    "simulate": ("--patients", "--seed", "--arm", "--dose", "--days-on", "--cycle-days", "--rdi", "--scenarios", "--scenario", "--region",
                 "--format", "--draw"),
    "report": ("--predictions",),
    "sensitivity": ("--draws", "--cluster"),
    "compare": ("--draws", "--cluster"),
}  # fmt: skip
NUMBERS = {c: fuzz.NEVER_A_NUMBER for c in ("value", "low", "high", "denominator")}
EVIDENCE = NUMBERS | {
    "id": ("", "a b", "../x", "=x", "<b>"), "arm": ("", "placebo", "=cmd"), "subgroup": ("", "japan", "/etc"),
    "outcome": ("", "death by fuzz", "@x"), "statistic": ("", "mean"), "interval": ("", "ci90"), "unit": ("", "furlongs"),
    "where": ("", "  "), "role": ("", "use"), "given": ("nothing_such", "../x"),
}  # fmt: skip
PRIORS = {
    "name": ("", "ec5", "../ec50", "=x"), "centre": (*fuzz.NEVER_A_NUMBER, "", "-1"),
    "spread": (*fuzz.NEVER_A_NUMBER, "-1", "0"), "source": ("", " "),
}  # fmt: skip
PRIORS_FILE = b"name,centre,spread,source\nec50,0.3,0.5,a paper\nsigma_anc,0.3,0.2,another\n"
NONMEM = {
    "TIME": ("many", "-1", "nan", "1e999"), "EVID": ("7", "x", "0.5"), "CMT": ("99", "x"), "DV": ("BLQ", "nan", "0x1"),
    "AMT": ("-5", "x", "inf"), "ID": ("", "."), "DVID": ("9", "x"), "CENS": ("5", "x"),
}  # fmt: skip
SCENARIOS = b"""[prediction]
draws = 20
seed = 3

[utility]
pfs_month = 1.0

[[scenario]]
name = "lower dose"
dose_mg = 0.6
days_on = 14
cycle_days = 28

[[scenario]]
name = "hold earlier"
rdi = 0.8
gcsf = "primary"

[[scenario]]
name = "other rules"
rules = "strict"
regions = "asia"

[rules.strict]
hold_below = 1.0
resume_at = 1.5
"""


@dataclass
class Count:
    """What came of the cases of one kind."""

    cases: int = 0
    known_wrong: int = 0
    refused: int = 0
    accepted: int = 0
    tracebacks: int = 0
    wrongly_accepted: int = 0
    slowest_cpu_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def shipped():
    """The shipped fit: DataTree and problem."""
    return posterior_file.load(built_in_fit() / POSTERIOR)


@pytest.fixture(scope="module")
def small_posterior(tmp_path_factory, shipped) -> bytes:
    """A sealed fit with few draws."""
    path = tmp_path_factory.mktemp("posterior") / POSTERIOR
    posterior_file.save(posterior_file.thin(shipped[0], 20), path)
    return path.read_bytes()


@pytest.fixture
def without_work(monkeypatch, shipped):
    """Commands read and check all that they are given, and stop where they would begin to simulate."""
    problem = shipped[1]
    fitted = fitted_of(problem)
    monkeypatch.setattr(pipeline, "run_fit", lambda *_: True)
    monkeypatch.setattr(pipeline, "run_check", lambda posterior, *_: posterior_file.load(posterior))
    monkeypatch.setattr(
        patient_fit, "run_patient_fit", lambda folder, out, settings, _: patient_fit.load(folder, settings) != ()
    )
    monkeypatch.setattr(calibrate, "run_calibrate", lambda *_: True)
    monkeypatch.setattr(programs, "begin", lambda *_: None)
    monkeypatch.setattr(predict, "run_predict", lambda posterior, source, *_: resolve(source, fitted))
    monkeypatch.setattr(report, "run_report", lambda *_: None)
    monkeypatch.setattr(sensitivity_run, "run_sensitivity", lambda *_: None)
    monkeypatch.setattr(structures_run, "run_structures", lambda *_: None)

    def run_simulate(posterior, out, order, regimen, rdi, suffix, source=None, name=None):
        if source is None:
            virtual_tables.ordered_scenario(problem, regimen, rdi)
        else:
            virtual_tables.named_scenario(problem, source, name)

    monkeypatch.setattr(virtual_tables, "run_simulate", run_simulate)


def unread(row: dict[str, str]) -> tuple[str, ...]:
    """Return what is not read of a row of the NONMEM-style table: an observation is told by DVID, a dose by CMT."""
    return ("CMT",) if row["EVID"] == "0" else ("DVID",)


class Kinds:
    """By kind of input: writes a case and gives the arguments that read it, and whether it is known to be wrong."""

    def __init__(self, root: Path, posterior: bytes, tables: dict[str, bytes]):
        self.root, self.out = root, root / "out"
        self.fit, self.patients, self.adam = (root / n for n in ("fit", "patients", "adam"))
        for folder in (self.fit, self.patients, self.adam):
            folder.mkdir()
        self.good = {n: (built_in_fit() / n).read_bytes() for n in ("fit.toml", "evidence.csv")}
        self.good["priors.csv"] = PRIORS_FILE
        for name, data in self.good.items():
            (self.fit / name).write_bytes(data)
        test_patient_fit.table().to_csv(self.patients / "three.csv", index=False)
        self.records = (self.patients / "three.csv").read_bytes()
        (self.patients / "fit.toml").write_text(test_patient_fit.SMALL)
        self.posterior, self.tables = posterior, tables

    def case(self, kind: str, rng: random.Random) -> tuple[list[str], bool]:
        if kind == "command line":
            places = [str(self.fit), str(self.root / "nowhere"), str(self.fit / "fit.toml"), "/dev/null", "doses"]
            words, wrong = fuzz.words_case(rng, OPTIONS, places)
            return [w.replace("{out}", str(self.out)) for w in words], wrong
        table = rng.choice(list(self.tables)) if kind == "ADaM-like tables" else ""
        data, wrong = self.edited(kind, self.unedited(kind, table), rng)
        return self.placed(kind, data, table), wrong

    def unedited(self, kind: str, table: str = "adlb") -> bytes:
        """Return a good file; ``table`` is one of the ADaM-like tables."""
        if kind == "ADaM-like tables":
            return self.tables[table]
        others = {
            "patients' fit.toml": test_patient_fit.SMALL.encode(), "scenario file": SCENARIOS,
            "NONMEM-style table": self.records, "posterior file": self.posterior,
        }  # fmt: skip
        return (self.good | others)[kind]

    def edited(self, kind: str, data: bytes, rng: random.Random) -> fuzz.Case:
        if kind.endswith(".toml") or kind == "scenario file":
            return fuzz.toml_case(data, rng)
        if kind == "posterior file":
            return fuzz.sealed_case(data, LENGTH, rng)
        if kind == "NONMEM-style table":
            return fuzz.table_case(data, rng, NONMEM, ("ID", "TIME", "DV"), unread)
        cells = {"evidence.csv": EVIDENCE, "priors.csv": PRIORS, "ADaM-like tables": {"USUBJID": ("", ".")}}[kind]
        return fuzz.table_case(data, rng, cells, tuple(cells))

    def placed(self, kind: str, data: bytes, table: str = "adlb") -> list[str]:
        """Write a file where it belongs, beside good ones, and return the arguments that read it."""
        out = ["--out", str(self.out)]
        if kind in self.good:
            for name, good in self.good.items():
                (self.fit / name).write_bytes(data if name == kind else good)
            return ["fit", str(self.fit), *out]
        if kind == "patients' fit.toml":
            (self.patients / "fit.toml").write_bytes(data)
            (self.patients / "three.csv").write_bytes(self.records)
            return ["fit", str(self.patients), *out]
        if kind == "ADaM-like tables":
            for name, good in self.tables.items():
                (self.adam / f"{name}.csv").write_bytes(data if name == table else good)
            return ["tables", str(self.adam), *out]
        name, before, after = {
            "scenario file": ("scenarios.toml", ["predict", "--scenarios"], []),
            "NONMEM-style table": ("table.csv", ["tables"], ["--dvid", "1=concentration,2=anc"]),
            "posterior file": ("damaged.nc", ["check"], []),
        }[kind]
        (self.root / name).write_bytes(data)
        return [*before, str(self.root / name), *after, *out]


@pytest.fixture(scope="module")
def tables(shipped) -> dict[str, bytes]:
    """A small trial's ADaM-like tables."""
    tree, problem = shipped
    scenario = virtual_tables.ordered_scenario(problem, {}, None)
    order = virtual_tables.Order(6, ("mezikd",), scenario, None, "posterior-mean", 5)
    trial = virtual_tables.simulate_virtual_trial(np.asarray(tree["unconstrained_posterior"]["z"]), problem, order)
    made = virtual_tables.tables_of(trial, "test")
    return {n: made[n].to_csv(index=False).encode() for n in ("adsl", "adex", "adlb", "adae", "adtte")}


def judge(kind: str, seed: int, kinds: Kinds, count: Count, capsys) -> None:
    """Run one case and count what came of it."""
    words, wrong = kinds.case(kind, random.Random(f"{kind} {seed}"))
    begin, fault, code = time.process_time(), "", None
    before = sorted(p.name for p in kinds.root.iterdir())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = run(words)
    except BaseException as error:
        fault = f"{type(error).__name__}: {error}"
    seconds = time.process_time() - begin
    said = capsys.readouterr().err
    if not fault and code == BAD_INPUT:
        good = said.endswith("\n") and all(x.startswith("mezikd: ") and x.isprintable() for x in said[:-1].split("\n"))
        several = kind in ("NONMEM-style table", "ADaM-like tables", "patients' fit.toml")
        fault = "" if good and (several or said.count("\n") == 1) else f"not one clear line: {said!r}"
        if not fault and kinds.out.exists():
            fault = "something was written"
    elif not fault and code not in (DONE, BAD_INPUT):
        fault = f"exit code {code}"
    if seconds > LONGEST:
        fault = f"{seconds:.0f} s of CPU"
    for path in kinds.out.glob("*"):
        path.unlink()
    if kinds.out.exists():
        kinds.out.rmdir()
    after = sorted(p.name for p in kinds.root.iterdir() if p.name not in ("scenarios.toml", "table.csv", "damaged.nc"))
    if not fault and set(after) - set(before):
        fault = f"left {set(after) - set(before)}"
    count.cases += 1
    count.known_wrong += wrong
    count.refused += code == BAD_INPUT
    count.accepted += code == DONE
    count.tracebacks += bool(fault)
    count.wrongly_accepted += wrong and code == DONE
    count.slowest_cpu_seconds = max(count.slowest_cpu_seconds, round(seconds, 2))
    if fault or (wrong and code == DONE):
        count.faults.append(f"{kind} {seed}: {fault or 'accepted'}; {words!r}"[:400])


@pytest.fixture
def kinds(tmp_path, small_posterior, tables, monkeypatch) -> Kinds:
    monkeypatch.chdir(tmp_path)  # a name made by machine may be a place
    return Kinds(tmp_path, small_posterior, tables)


def counted(kind: str, cases: int, kinds: Kinds, capsys) -> Count:
    count = Count()
    for seed in range(cases):
        judge(kind, seed, kinds, count, capsys)
    return count


@pytest.mark.parametrize("kind", [k for k in CASES if k != "command line"])
def test_unedited_files_are_no_mistake(kind, kinds, without_work, capsys):
    """Else every edit of them would be refused for what it did not change."""
    code = run(kinds.placed(kind, kinds.unedited(kind)))
    assert code == DONE, capsys.readouterr().err


@pytest.mark.parametrize("kind", CASES)
def test_some_bad_inputs(kind, kinds, without_work, capsys):
    count = counted(kind, QUICK, kinds, capsys)
    assert not count.faults, "\n".join(count.faults)
    assert count.refused >= count.known_wrong > 0


@pytest.mark.slow
def test_thousands_of_bad_inputs(kinds, without_work, capsys):
    counts = {kind: counted(kind, cases, kinds, capsys) for kind, cases in CASES.items()}
    table = pd.DataFrame(
        [{"input": k} | {n: v for n, v in vars(c).items() if n != "faults"} for k, c in counts.items()]
    )
    table.to_csv(RESULT, index=False)
    faults = [f for c in counts.values() for f in c.faults]
    assert not faults, "\n".join(faults)
    assert table["cases"].sum() >= 10_000
