"""Scenario files: what they expand to, and each mistake in them as one line that names it, with exit code 2."""

import re
from pathlib import Path

import pytest
from mezikd.inference import commands
from mezikd.inference.errors import InputError
from mezikd.inference.scenario_files import read_scenarios, shipped_scenarios, single_scenario
from mezikd.inference.scenario_writer import scenarios_toml
from mezikd.inference.scenarios import Fitted, Request, resolve
from mezikd.model.regimen import Regimen
from mezikd.model.scenario import DoseRules, Gcsf, Scenario

FITTED = Fitted(Regimen(), (0.1, 0.4, 0.3, 0.2))
ONE = '[[scenario]]\nname = "a"\n'


def resolved(tmp_path: Path, text: str) -> Request:
    """Return the request of a file with this text."""
    path = tmp_path / "s.toml"
    path.write_text(text)
    return resolve(read_scenarios(path, {}), FITTED)


MISTAKES: dict[str, tuple[str, tuple[str, ...]]] = {
    # a value
    "dose zero": (ONE + "dose_mg = 0", ("line 3", "`scenario.dose_mg`", "value 0", "above 0 and at most 10")),
    "dose negative": (ONE + "dose_mg = -0.6", ("line 3", "`scenario.dose_mg`", "-0.6", "above 0")),
    "dose nan": (ONE + "dose_mg = nan", ("line 3", "nan", "a number of mg")),
    "dose as text": (ONE + 'dose_mg = "0.6 mg"', ("line 3", "'0.6 mg'", "a number of mg")),
    "dose in ug": (ONE + "dose_mg = 600.0", ("line 3", "600", "at most 10")),
    "days on a fraction": (ONE + "days_on = 10.5", ("line 3", "`scenario.days_on`", "10.5", "whole number")),
    "no day on": (ONE + "days_on = 0", ("line 3", "`scenario.days_on`", "value 0", "1 to 84")),
    "days on beyond the cycle": (
        ONE + "days_on = 22\ncycle_days = 21",
        ("line 3", "`scenario.days_on`", "22 days on in a cycle of 21 days", "at most cycle_days"),
    ),
    "cycle shorter than the fitted days on": (ONE + "cycle_days = 14", ("line 3", "21 days on in a cycle of 14")),
    "cycle not in weeks": (ONE + "cycle_days = 30", ("line 3", "`scenario.cycle_days`", "30 days", "multiple of 7")),
    "level above the dose": (
        ONE + "dose_mg = 0.6\nlevels_mg = [1.0, 0.3]",
        ("line 4", "`scenario.levels_mg`", "level 1 mg is above the dose of 0.6 mg"),
    ),
    "levels ascending": (ONE + "levels_mg = [0.3, 0.6]", ("line 3", "not descending")),
    "no level": (ONE + "levels_mg = []", ("line 3", "`scenario.levels_mg`", "1 to 7 numbers")),
    "rdi a percentage": (ONE + "rdi = 80", ("line 3", "`scenario.rdi`", "did you mean 0.8?", "emergent")),
    "rdi zero": (ONE + "rdi = 0.0", ("line 3", "`scenario.rdi`", "value 0.0", "above 0")),
    "rdi a word": (ONE + 'rdi = "full"', ("line 3", "`scenario.rdi`", "'full'", '"emergent"')),
    # rules, G-CSF, regions
    "rules beside rdi": (
        ONE + 'rdi = 0.8\nrules = "off"',
        ("line 4", "`scenario.rules`", "no rule acts where rdi is set"),
    ),
    "resume below hold": (
        ONE + "[scenario.rules]\nhold_below = 1.0\nresume_at = 0.5",
        ("line 5", "`scenario.rules.resume_at`", "value 0.5 is below the 1 that holds", "at least hold_below"),
    ),
    "hold above the resume limit left out": (
        ONE + "[scenario.rules]\nhold_below = 1.5",
        ("`scenario.rules.resume_at`", "value 1.0 is below the 1.5"),
    ),
    "unknown rule": (
        ONE + "[scenario.rules]\nhold_bellow = 1.0",
        ("line 4", "unknown key `scenario.rules.hold_bellow`", "did you mean `hold_below`?"),
    ),
    "rules not named": (ONE + 'rules = "strict"', ("line 3", "'strict' is not known", "[rules.strict]", "off")),
    "rules a number": (ONE + "rules = 1", ("line 3", "`scenario.rules`", "value 1", "a table of rules")),
    "count in another unit": (
        ONE + "[scenario.rules]\nhold_below = 1000",
        ("line 4", "`scenario.rules.hold_below`", "value 1000", "10^9/L", "0.1 to 2"),
    ),
    "delay of no day": (ONE + "rules = { maximum_delay_days = 0 }", ("line 3", "maximum_delay_days", "7 to 728")),
    "flag not a truth value": (
        ONE + '[scenario.rules]\nhold_febrile = "yes"',
        ("line 4", "hold_febrile", "true or false"),
    ),
    "named rules with a mistake": (
        ONE + "[rules.strict]\nreduce_after_hold = -1",
        ("line 4", "`rules.strict.reduce_after_hold`", "-1", "0 to 20"),
    ),
    "rules named as a built-in": (ONE + "[rules.off]\nhold_below = 0.5", ("line 3", "'off' has a meaning", "rename")),
    "unknown G-CSF policy": (ONE + 'gcsf = { policy = "always" }', ("line 3", "policy", "'always'", "reactive")),
    "unknown G-CSF name": (ONE + 'gcsf = "prophylaxis"', ("line 3", "`scenario.gcsf`", "'prophylaxis'", "primary")),
    "G-CSF without a policy": (ONE + "[scenario.gcsf]\ncourse_days = 5", ("line 3", "policy` is missing", "primary")),
    "G-CSF after the cycle": (
        ONE + 'cycle_days = 7\ndays_on = 5\ngcsf = "primary"',
        ("line 5", "start_day 8 is after the cycle of 7 days"),
    ),
    "region mix not adding up": (
        ONE + "[scenario.regions]\nusa = 0.5\nasia = 0.4",
        ("line 3", "`scenario.regions`", "adds up to 0.9, not to 1"),
    ),
    "region mix in percent": (ONE + "regions = { asia = 100 }", ("line 3", "asia", "value 100", "0 to 1")),
    "unknown region": (ONE + "regions = { japan = 1.0 }", ("line 3", "`scenario.regions.japan`", "rest_of_world")),
    "unknown mix": (ONE + 'regions = "japan"', ("line 3", "'japan' is not known", "trial")),
    # a table
    "no name": ("[[scenario]]\ndose_mg = 0.6", ("line 1", "`scenario.name` is missing", "under [[scenario]]")),
    "empty name": ('[[scenario]]\nname = ""', ("line 2", "`scenario.name`", "1 to 80 characters")),
    "line break in a name": ('[[scenario]]\nname = "a\\nb"', ("line 2", "line break")),
    "name twice": (ONE + ONE + "dose_mg = 0.6", ("line 4", "`scenario.name`", "'a' is there twice")),
    "name of the control arm": ('[[scenario]]\nname = "Kd"', ("line 2", "'Kd'", "control arm")),
    "mistake in the second table": (ONE + ONE.replace('"a"', '"b"') + "dose_mg = 0", ("line 5", "value 0")),
    "unknown key": (ONE + "dose = 0.6", ("line 3", "unknown key `scenario.dose`", "did you mean `dose_mg`?")),
    "unknown section": ('[[scenarios]]\nname = "a"', ("line 1", "`scenarios`", "did you mean `scenario`?")),
    "one table instead of a list": ('[scenario]\nname = "a"', ("line 1", "`scenario`", "[[scenario]] tables")),
    "grid empty": ("[grid]", ("line 1", "the grid is empty", "dose_mg = [")),
    "grid with an empty list": ("[grid]\ndose_mg = []", ("line 2", "`grid.dose_mg`", "at least one")),
    "grid with a number": ("[grid]\ndose_mg = 0.6", ("line 2", "`grid.dose_mg`", "list of at least one")),
    "grid value twice": ("[grid]\ndose_mg = [0.6, 0.6]", ("line 1", "`grid`", "'0.6 mg 21/28' is there twice")),
    "grid schedule": ('[grid]\nschedule = ["21-28"]', ("line 2", "'21-28' is no schedule", '"21/28"')),
    "grid days on": ('[grid]\nschedule = ["21/14"]', ("line 2", "'21/14' is 21 days on in a cycle of 14 days")),
    "grid rules not named": ('[grid]\nrules = ["off", "mild"]', ("`grid.rules`", "'mild' is not known")),
    "grid rules beside rdi": ('[grid]\nrdi = ["emergent", 0.8]\nrules = ["off"]', ("line 3", "no rule acts")),
    "grid too large": (f"[grid]\ndose_mg = {[x / 100 for x in range(1, 300)]}", ("line 1", "299 scenarios", "200")),
    "draws zero": (ONE + "[prediction]\ndraws = 0", ("line 4", "`prediction.draws`", "value 0", "20 to")),
    "odd patients": (ONE + "[prediction]\npatients = 501", ("line 4", "`prediction.patients`", "501", "even")),
    "horizon in days": (ONE + "[prediction]\nhorizon_months = 365", ("line 4", "horizon_months", "1 to 60")),
    "reference unknown": (ONE + '[prediction]\nreference = "b"', ("line 4", "no scenario has the name 'b'", "'a'")),
    "weight not a number": (ONE + '[utility]\npfs_month = "1"', ("line 4", "`utility.pfs_month`", "-100 to 100")),
    "weights all zero": (
        ONE + "[utility]\npfs_month = 0\nsevere_infection = 0\nfebrile_neutropenia = 0",
        ("line 3", "`utility`", "every weight is 0"),
    ),
    # the file
    "not TOML": (ONE + "dose_mg 0.6", ("line 3", "not TOML", "key = value")),
    "no scenario": ("[prediction]\ndraws = 100", ("there is no scenario", "[[scenario]]", "[grid]")),
    "empty": ("", ("there is no scenario",)),
}


@pytest.fixture
def read_only_posterior(monkeypatch):
    """Resolve against FITTED instead of reading the posterior, which takes seconds."""
    from types import ModuleType

    fake = ModuleType("predict")
    fake.run_predict = lambda posterior, source, *_: resolve(source, FITTED)  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "mezikd.inference.predict", fake)


def assert_one_line(code: int, stderr: str, words: tuple[str, ...]) -> None:
    assert code == commands.BAD_INPUT, stderr
    assert re.fullmatch(r"mezikd: [^\n]+\n", stderr), stderr
    missing = [w for w in words if w not in stderr]
    assert not missing, f"{missing} not in {stderr}"


@pytest.mark.parametrize(("text", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_in_a_scenario_file(tmp_path, capsys, read_only_posterior, text, words):
    path, out = tmp_path / "mine.toml", tmp_path / "out"
    path.write_text(text)
    code = commands.run(["predict", "--scenarios", str(path), "--out", str(out)])
    assert_one_line(code, capsys.readouterr().err, (str(path), *words))
    assert not out.exists()


FLAGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "no out": ("predict --dose 0.6", ("--out", "mezikd predict --help")),
    "dose zero": ("predict --dose 0 --out {out}", ("--dose", "value 0.0", "above 0 and at most 10")),
    "dose nan": ("predict --dose nan --out {out}", ("--dose", "nan", "a number of mg")),
    "dose not a number": ("predict --dose low --out {out}", ("--dose", "number")),
    "days on": ("predict --days-on 29 --out {out}", ("--days-on", "29 days on in a cycle of 28 days")),
    "cycle": ("predict --days-on 5 --cycle-days 10 --out {out}", ("--cycle-days", "10 days", "multiple of 7")),
    "rdi a percentage": ("predict --rdi 80 --out {out}", ("--rdi", "did you mean 0.8?")),
    "draws": ("predict --draws 0 --out {out}", ("--draws", "value 0", "20 to 100000")),
    "patients odd": ("predict --patients 65 --out {out}", ("--patients", "65", "even")),
    "patients few": ("predict --patients 10 --out {out}", ("--patients", "10", "64 to 65536")),
    "horizon": ("predict --months 61 --out {out}", ("--months", "61", "1 to 60")),
    "seed": ("predict --seed -1 --out {out}", ("--seed", "-1", "0 to")),
    "dose beside a file": ("predict --dose 0.6 --scenarios doses --out {out}", ("--dose", "beside --scenarios")),
    "shipped name": ("predict --scenarios dosis --out {out}", ("--scenarios", "'dosis'", "did you mean doses?")),
    "no such file": ("predict --scenarios {out}/a.toml --out {out}", ("a.toml", "no such file")),
    "a folder": ("predict --scenarios {empty} --out {out}", ("--scenarios", "is a folder")),
    "not UTF-8": ("predict --scenarios {latin} --out {out}", ("latin.toml", "not UTF-8")),
    "no posterior": ("predict {empty} --out {out}", ("posterior.nc", "no such file")),
    "not a posterior": ("predict {latin} --out {out}", ("not a netCDF file",)),
    "out is a file": ("predict --out {latin}", ("--out", "is a file")),
    "out in a missing folder": ("predict --out {out}/a/b", ("--out", "does not exist", "mkdir -p")),
}


@pytest.mark.parametrize(("template", "words"), FLAGS.values(), ids=FLAGS.keys())
def test_mistake_on_the_command_line(tmp_path, capsys, read_only_posterior, template, words):
    (tmp_path / "latin.toml").write_bytes(b'[[scenario]]\nname = "\xe9"\n')
    (tmp_path / "empty").mkdir()
    places = {"out": tmp_path / "out", "latin": tmp_path / "latin.toml", "empty": tmp_path / "empty"}
    code = commands.run([word.format(**places) for word in template.split()])
    assert_one_line(code, capsys.readouterr().err, words)
    assert not (tmp_path / "out").exists()


def test_left_out_is_as_fitted(tmp_path):
    """A scenario of a name alone is the fitted regimen, so it is the reference."""
    request = resolved(tmp_path, ONE)
    assert [s.name for s in request.scenarios] == ["a"]
    assert request.reference == "a"
    assert request.scenarios[0].scenario == Scenario()
    assert request.scenarios[0].regions == FITTED.regions


def test_reference_is_added(tmp_path):
    request = resolved(tmp_path, ONE + "dose_mg = 0.6")
    assert [s.name for s in request.scenarios] == ["1.0 mg 21/28", "a"]
    assert request.reference == "1.0 mg 21/28"
    named = resolved(tmp_path, ONE.replace('"a"', '"1.0 mg 21/28"') + "dose_mg = 0.6")
    assert named.reference == "fitted: 1.0 mg 21/28"
    chosen = resolved(tmp_path, ONE + 'dose_mg = 0.6\n[prediction]\nreference = "a"')
    assert [s.name for s in chosen.scenarios] == ["a"]


def test_grid_is_the_product(tmp_path):
    text = """
    [grid]
    dose_mg = [0.6, 1]
    schedule = ["21/28", "5/7"]
    gcsf = ["none", "late"]
    regions = ["trial", "asia", "half"]
    [gcsf.late]
    policy = "primary"
    start_day = 3
    [regions.half]
    usa = 0.5
    europe = 0.5
    """
    request = resolved(tmp_path, text)
    assert len({s.name for s in request.scenarios}) == 24
    last = request.scenarios[-1]
    assert last.name == "1.0 mg 5/7, G-CSF late, regions half"
    assert last.scenario.gcsf == Gcsf("primary", 5, 3)
    assert (last.scenario.regimen.days_on, last.scenario.regimen.cycle_days) == (5, 7)
    assert last.regions == (0.5, 0.5, 0.0, 0.0)
    assert request.scenarios[1].regions == (0.0, 0.0, 1.0, 0.0)


def test_counts_on_the_same_days_whatever_the_cycle(tmp_path):
    """Another schedule has the fitted trial's visits: more counts would find more neutropenia."""
    request = resolved(tmp_path, '[grid]\nschedule = ["21/28", "14/28", "7/14", "5/7", "28/28", "14/21"]')
    visits = [s.scenario.regimen.is_visit(104) for s in request.scenarios]
    assert visits[0].sum() == 7 + 48
    assert all((v == visits[0]).all() for v in visits)


def test_rules_named_and_in_place(tmp_path):
    text = """
    [[scenario]]
    name = "named"
    rules = "strict"
    [[scenario]]
    name = "in place"
    [scenario.rules]
    hold_below = 1.0
    [[scenario]]
    name = "off"
    rules = "off"
    [rules.strict]
    hold_below = 1.0
    """
    by_name = {s.name: s.scenario for s in resolved(tmp_path, text).scenarios}
    assert by_name["named"] == by_name["in place"]
    assert by_name["named"].rules == DoseRules(hold_below=1.0)
    assert by_name["off"].rules is None


def test_above_the_studied_range(tmp_path):
    request = resolved(tmp_path, "[grid]\ndose_mg = [0.6, 1.0, 1.4]")
    assert request.above_range == ("1.4 mg 21/28",)


def test_options_name_the_scenario():
    request = resolve(single_scenario({"dose_mg": 0.6, "rdi": 0.8}, {"draws": 50}), FITTED)
    assert [s.name for s in request.scenarios] == ["1.0 mg 21/28", "0.6 mg 21/28, RDI 80 %"]
    assert request.prediction.draws == 50
    assert resolve(single_scenario({}, {}), FITTED).scenarios[0].scenario == Scenario()


@pytest.mark.parametrize("name", shipped_scenarios())
def test_shipped_file_and_its_resolved_form(tmp_path, name):
    """scenarios.toml, read again, is the same request and the same file."""
    request = resolve(read_scenarios(Path(name), {"draws": 50}), FITTED)
    text = scenarios_toml(request, "x")
    again = resolved(tmp_path, text)
    assert again.scenarios == request.scenarios
    assert (again.reference, again.utility, again.prediction.draws) == (request.reference, request.utility, 50)
    assert scenarios_toml(again, "x") == text


def test_shipped_files():
    assert set(shipped_scenarios()) == {"doses", "schedules", "dose_intensity", "rules", "gcsf", "grid"}
    assert len(resolve(read_scenarios(Path("grid"), {}), FITTED).scenarios) == 12


def test_a_file_wins_over_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("doses").write_text(ONE)
    assert read_scenarios(Path("doses"), {}).request.scenario[0].name == "a"
    with pytest.raises(InputError):
        read_scenarios(Path("dose"), {})
