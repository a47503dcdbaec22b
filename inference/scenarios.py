"""From what a user asks to the scenarios that are simulated, each resolved in full, the reference among them."""

from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any

import numpy as np
from mezikd.model.parameters import REGIONS
from mezikd.model.regimen import Regimen, Visits
from mezikd.model.scenario import DoseRules, Gcsf, Scenario

from . import scenario_settings as file
from .errors import nearest_first, shown
from .problem import Problem
from .scenario_files import Source

CONTROL = "Kd"
"""Name of the control arm's scenario: always simulated, so not free for another."""


@dataclass(frozen=True)
class Fitted:
    """What the fit was: the scenario that its reported numbers speak of."""

    regimen: Regimen
    regions: tuple[float, ...]
    """Shares of the mezigdomide arm's patients by region."""

    @property
    def highest_mg(self) -> float:
        """Highest dose that the fitted trial gave: reductions only go down."""
        return self.regimen.dose_mg


@dataclass(frozen=True)
class NamedScenario:
    """A scenario, its name and its patients."""

    name: str
    scenario: Scenario
    regions: tuple[float, ...]
    """Shares of the patients by region, in the order of parameters.REGIONS."""


@dataclass(frozen=True)
class Request:
    """What is simulated."""

    scenarios: tuple[NamedScenario, ...]
    """Without the control arm."""
    reference: str
    prediction: file.Prediction
    utility: file.Utility
    fitted: Fitted

    @property
    def above_range(self) -> tuple[str, ...]:
        """Names of scenarios with a dose above any that the fitted trial gave."""
        return tuple(s.name for s in self.scenarios if s.scenario.regimen.dose_mg > self.fitted.highest_mg + 1e-9)


def fitted_of(problem: Problem) -> Fitted:
    """Return what the fitted trial's mezigdomide arm received."""
    design = problem.design
    regimen = replace(design.regimen, levels_mg=reachable(design.regimen.levels_mg, design.regimen.dose_mg))
    shares = np.array(design.mezikd.regions, float) / sum(design.mezikd.regions)
    return Fitted(regimen, tuple(float(x) for x in shares))


def described(source: Source, fitted: Fitted) -> list[NamedScenario]:
    """Return the scenarios that ``source`` describes, in full; what one leaves out is as fitted.

    Raises
    ------
    InputError: days on beyond the cycle; levels above the dose; rules beside a set RDI.
    """
    _check_definitions(source)
    scenarios = [_one(source, s, ("scenario", i), fitted) for i, s in enumerate(source.request.scenario)]
    return scenarios + _grid(source, fitted)


def resolve(source: Source, fitted: Fitted) -> Request:
    """Return every scenario of ``source`` in full, the reference among them.

    What a scenario leaves out is as fitted. Where no reference is named, it is the fitted regimen, added if it is missing.

    Raises
    ------
    InputError: a name used twice or unknown; days on beyond the cycle; levels above the dose; rules beside a set RDI.
    """
    request, scenarios = source.request, described(source, fitted)
    if len(scenarios) > file.MAXIMUM_SCENARIOS:
        place = ("grid",) if request.grid else ("scenario",)
        raise source.error(
            place, f"{len(scenarios)} scenarios", "split the file", allowed=f"at most {file.MAXIMUM_SCENARIOS}"
        )
    _check_names(source, scenarios)
    reference = request.prediction.reference
    if reference is None:
        plain = Scenario(regimen=fitted.regimen)
        same = [s.name for s in scenarios if s.scenario == plain and s.regions == fitted.regions]
        if not same:
            name = regimen_name(fitted.regimen)
            name = f"fitted: {name}" if any(s.name == name for s in scenarios) else name
            scenarios.insert(0, NamedScenario(name, plain, fitted.regions))
            same = [name]
        reference = same[0]
    elif reference not in {s.name for s in scenarios}:
        known = nearest_first(reference, [s.name for s in scenarios])
        raise source.error(
            ("prediction", "reference"),
            f"no scenario has the name {shown(reference)}",
            f"did you mean {shown(known[0])}?",
            allowed=", ".join(known[:12]),
        )
    return Request(tuple(scenarios), reference, request.prediction, request.utility, fitted)


def regimen_name(regimen: Regimen) -> str:
    """Return for example "0.6 mg 21/28"."""
    return f"{float(regimen.dose_mg)} mg {regimen.days_on}/{regimen.cycle_days}"


def _check_definitions(source: Source) -> None:
    taken = {
        "rules": (file.TRIAL_RULES, file.NO_RULES),
        "gcsf": (file.NO_GCSF, "reactive", "primary"),
        "regions": (file.TRIAL_REGIONS, *REGIONS),
    }
    for section, words in taken.items():
        for name in getattr(source.request, section):
            if name in words:
                raise source.error((section, name), f"the name {shown(name)} has a meaning already", "rename it")


def _check_names(source: Source, scenarios: list[NamedScenario]) -> None:
    seen: dict[str, int] = {}
    for i, s in enumerate(scenarios):
        place = ("scenario", i, "name") if i < len(source.request.scenario) else ("grid",)
        if len(s.name) > file.LONGEST_NAME:
            raise source.error(
                place, f"the name {shown(s.name)} is too long", "name rules and mixes shorter", file.NAME
            )
        if s.name == CONTROL:
            raise source.error(place, f"the name {shown(CONTROL)} is the control arm's, always there", "rename it")
        if s.name in seen:
            raise source.error(place, f"the name {shown(s.name)} is there twice", "give each scenario its own name")
        seen[s.name] = i


def _one(source: Source, s: file.Scenario, place: tuple[str | int, ...], fitted: Fitted) -> NamedScenario:
    base = fitted.regimen
    dose = base.dose_mg if s.dose_mg is None else s.dose_mg
    on = base.days_on if s.days_on is None else s.days_on
    cycle = base.cycle_days if s.cycle_days is None else s.cycle_days
    if problem := file.schedule_problem(on, cycle):
        off_cycle = cycle % 7 or s.days_on is None
        key, text = ("cycle_days", file.CYCLE) if off_cycle else ("days_on", file.DAYS_ON)
        raise source.error((*place, key), f"the schedule {problem}", "correct days_on or cycle_days", allowed=text)
    if s.levels_mg is not None:
        if max(s.levels_mg) > dose + 1e-9:
            raise source.error(
                (*place, "levels_mg"), f"level {max(s.levels_mg):g} mg is above the dose of {dose:g} mg",
                "leave it out", allowed=f"levels up to {dose:g} mg",
            )  # fmt: skip
        if any(a <= b for a, b in pairwise(s.levels_mg)):
            raise source.error((*place, "levels_mg"), "levels are not descending", "sort them, the highest first")
    if s.rdi != file.EMERGENT and s.rules != file.TRIAL_RULES:
        raise source.error(
            (*place, "rules"), "no rule acts where rdi is set", 'delete the rules, or write rdi = "emergent"'
        )
    gcsf = _gcsf(source, s.gcsf, (*place, "gcsf"))
    if gcsf.policy == "primary" and gcsf.start_day > cycle:
        raise source.error(
            (*place, "gcsf"), f"start_day {gcsf.start_day} is after the cycle of {cycle} days", "give an earlier day"
        )
    levels = base.levels_mg if s.levels_mg is None else s.levels_mg
    scenario = Scenario(
        regimen=replace(
            base,
            dose_mg=dose,
            days_on=on,
            cycle_days=cycle,
            levels_mg=reachable(levels, dose),
            visits=_visits(base, cycle),
        ),
        rules=_rules(source, s.rules, (*place, "rules")),
        rdi=None if s.rdi == file.EMERGENT else float(s.rdi),
        gcsf=gcsf,
    )
    regions = _regions(source, s.regions, (*place, "regions"), fitted)
    rdi = [f"RDI {100.0 * scenario.rdi:g} %"] if scenario.rdi is not None else []
    name = s.name if source.path is not None else ", ".join([regimen_name(scenario.regimen), *rdi])
    return NamedScenario(name, scenario, regions)


def _visits(fitted: Regimen, cycle_days: int) -> Visits:
    """Return the fitted trial's visits, on the same days since the first dose whatever the cycle."""
    return fitted.visits if cycle_days == fitted.cycle_days else replace(fitted.visits, calendar_days=fitted.cycle_days)


def reachable(levels: tuple[float, ...], dose: float) -> tuple[float, ...]:
    """Return the levels that can be reached from ``dose``: one form for what has one meaning."""
    return tuple(x for x in levels if x <= dose + 1e-9)


def _grid(source: Source, fitted: Fitted) -> list[NamedScenario]:
    grid = source.request.grid
    if grid is None:
        return []
    if not grid.model_fields_set:
        raise source.error(("grid",), "the grid is empty", "add a list such as dose_mg = [0.3, 0.6, 1.0]")
    if set(grid.rdi) != {file.EMERGENT} and grid.rules != (file.TRIAL_RULES,):
        raise source.error(
            ("grid", "rules"), "no rule acts where rdi is set", 'delete the rules, or write rdi = ["emergent"]'
        )
    base, out = fitted.regimen, []
    doses = (base.dose_mg,) if grid.dose_mg is None else grid.dose_mg
    schedules = (f"{base.days_on}/{base.cycle_days}",) if grid.schedule is None else grid.schedule
    for dose, schedule, rdi, rules, gcsf, regions in product(
        doses, schedules, grid.rdi, grid.rules, grid.gcsf, grid.regions
    ):
        on, cycle = file.parse_schedule(schedule)
        parts = [regimen_name(replace(base, dose_mg=dose, days_on=on, cycle_days=cycle))]
        parts += [f"RDI {100.0 * float(rdi):g} %"] if rdi != file.EMERGENT else []
        parts += [f"rules {rules}"] if rules != file.TRIAL_RULES else []
        parts += [f"G-CSF {gcsf}"] if gcsf != file.NO_GCSF else []
        parts += [f"regions {regions}"] if regions != file.TRIAL_REGIONS else []
        values: dict[str, Any] = {"dose_mg": dose, "days_on": on, "cycle_days": cycle, "rdi": rdi}
        # Every value has been checked in its list; the name may be longer than one that a user types.
        entry = file.Scenario.model_construct(
            name=", ".join(parts), levels_mg=None, rules=rules, gcsf=gcsf, regions=regions, **values
        )
        out.append(_one(source, entry, ("grid",), fitted))
    return out


def _named(source: Source, word: str, place: tuple[str | int, ...], words: tuple[str, ...], section: str) -> Any:
    """Return the definition [section.word]."""
    defined = getattr(source.request, section)
    if word not in defined:
        known = nearest_first(word, [*words, *defined])
        raise source.error(
            place, f"{shown(word)} is not known", f"did you mean {shown(known[0])}? Or define [{section}.{word}]",
            allowed=", ".join(known),
        )  # fmt: skip
    return defined[word]


def _rules(source: Source, rules: file.Rules | str, place: tuple[str | int, ...]) -> DoseRules | None:
    words = (file.TRIAL_RULES, file.NO_RULES)
    if rules in words:
        return DoseRules() if rules == file.TRIAL_RULES else None
    given = _named(source, rules, place, words, "rules") if isinstance(rules, str) else rules
    return DoseRules(**given.model_dump())


def _gcsf(source: Source, gcsf: file.Gcsf | str, place: tuple[str | int, ...]) -> Gcsf:
    words = (file.NO_GCSF, "reactive", "primary")
    if isinstance(gcsf, str) and gcsf in words:
        given = file.Gcsf.model_validate({"policy": gcsf})
    else:
        given = _named(source, gcsf, place, words, "gcsf") if isinstance(gcsf, str) else gcsf
    return Gcsf() if given.policy == "none" else Gcsf(**given.model_dump())


def _regions(
    source: Source, regions: file.Regions | str, place: tuple[str | int, ...], fitted: Fitted
) -> tuple[float, ...]:
    if regions == file.TRIAL_REGIONS:
        return fitted.regions
    if isinstance(regions, str) and regions in REGIONS:
        return tuple(float(regions == r) for r in REGIONS)
    words = (file.TRIAL_REGIONS, *REGIONS)
    given = _named(source, regions, place, words, "regions") if isinstance(regions, str) else regions
    return given.shares()
