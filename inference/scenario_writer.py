"""scenarios.toml: what was simulated, every scenario in full, so that it can be run again."""

import json
from dataclasses import asdict

from mezikd.model.parameters import REGIONS
from mezikd.model.scenario import DoseRules

from . import scenario_settings as file
from .scenarios import NamedScenario, Request


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items() if v is not None) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    # Texts, booleans and numbers of JSON are those of TOML.
    return json.dumps(value, ensure_ascii=False)


def _scenario(s: NamedScenario) -> dict[str, object]:
    regimen, rules = s.scenario.regimen, s.scenario.rules
    out: dict[str, object] = {
        "name": s.name,
        "dose_mg": float(regimen.dose_mg),
        "days_on": regimen.days_on,
        "cycle_days": regimen.cycle_days,
        "levels_mg": regimen.levels_mg or None,
        "rdi": file.EMERGENT if s.scenario.rdi is None else s.scenario.rdi,
        "rules": None,
        "gcsf": asdict(s.scenario.gcsf) if s.scenario.gcsf.policy != "none" else file.NO_GCSF,
        "regions": dict(zip(REGIONS, s.regions, strict=True)),
    }
    if s.scenario.rdi is None:
        out["rules"] = file.NO_RULES if rules is None else file.TRIAL_RULES if rules == DoseRules() else asdict(rules)
    return out


def scenarios_toml(request: Request, posterior: str) -> str:
    """Return the text of scenarios.toml; reading it gives the same request.

    ``posterior`` says which posterior was used, for the comment at the top.
    """
    prediction = request.prediction.model_dump() | {"reference": request.reference}
    lines = [f"# What was simulated, in full. Posterior: {posterior}", ""]
    tables = [("[prediction]", prediction), ("[utility]", request.utility.model_dump())]
    tables += [("[[scenario]]", _scenario(s)) for s in request.scenarios]
    for header, values in tables:
        lines += [header, *(f"{k} = {_value(v)}" for k, v in values.items() if v is not None), ""]
    return "\n".join(lines)
