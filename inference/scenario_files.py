"""Where scenarios come from: a file of the user, one that ships, or options of the command line; checked key by key."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from . import scenario_settings as file
from .errors import InputError, input_error, nearest_first, shown
from .settings import Section, read_toml
from .settings_errors import declaration, line_of, location

OPTIONS = {
    "dose_mg": "--dose", "days_on": "--days-on", "cycle_days": "--cycle-days", "rdi": "--rdi", "draws": "--draws",
    "patients": "--patients", "horizon_months": "--months", "seed": "--seed", "name": "--dose",
}  # fmt: skip
"""Options of `mezikd predict` by the key that they set."""


@dataclass(frozen=True)
class Source:
    """Where a request comes from, so that a mistake in it can be named."""

    request: file.ScenarioFile
    path: Path | None = None
    text: str = ""

    def error(self, place: tuple[str | int, ...], problem: str, remedy: str, allowed: str | None = None) -> InputError:
        """Return the error about the key at ``place``: file, line and key, or the option that sets it."""
        keys = [str(k) for k in place if isinstance(k, str)]
        if self.path is None:
            return input_error(OPTIONS.get(keys[-1], keys[-1]), problem, remedy, allowed=allowed)
        key = ".".join(keys)
        line = line_of(self.text, place)
        return input_error(self.path, f"key `{key}`: {problem}", remedy, line=line, allowed=allowed)


def shipped_scenarios() -> dict[str, Path]:
    """Return the scenario files that ship with the package, by bare name."""
    folder = Path(str(resources.files("mezikd.fits"))) / "scenarios"
    return {p.stem: p for p in sorted(folder.glob("*.toml"))}


def read_scenarios(path: Path, overrides: Mapping[str, int]) -> Source:
    """Return a scenario file, or the shipped one of that bare name, with options of the command line in place.

    Raises
    ------
    InputError: no such file, not TOML, an unknown key, a value outside its range.
    """
    shipped = shipped_scenarios()
    if not path.exists() and path.suffix == "" and len(path.parts) == 1:
        if path.name not in shipped:
            known = nearest_first(path.name, shipped)
            raise input_error(
                "--scenarios",
                f"{shown(path.name)} is neither a file nor a shipped one",
                f"name a .toml file, or did you mean {known[0]}?" if known else "name a .toml file",
                allowed=", ".join(shipped),
            )
        path = shipped[path.name]
    if path.is_dir():
        raise input_error("--scenarios", f"{path} is a folder", "name a .toml file")
    request, text = read_toml(path, file.ScenarioFile)
    if not request.scenario and request.grid is None:
        raise input_error(path, "there is no scenario", "add a [[scenario]] with a name, or a [grid]")
    return Source(_with_options(request, overrides), path, text)


def single_scenario(given: Mapping[str, float], overrides: Mapping[str, int]) -> Source:
    """Return the request of the options ``given`` (dose_mg, days_on, cycle_days, rdi); the name is made later."""
    data = {"scenario": [{"name": "?", **given}]}
    try:
        request = file.ScenarioFile.model_validate(data)
    except ValidationError as error:
        raise _option_error(error) from None
    return Source(_with_options(request, overrides))


def _with_options(request: file.ScenarioFile, overrides: Mapping[str, int]) -> file.ScenarioFile:
    data = request.prediction.model_dump() | dict(overrides)
    try:
        return request.model_copy(update={"prediction": file.Prediction.model_validate(data)})
    except ValidationError as error:
        raise _option_error(error, file.Prediction) from None


def _option_error(error: ValidationError, root: type[Section] = file.ScenarioFile) -> InputError:
    first = error.errors()[0]
    keys = [k for k in location(first["loc"]) if isinstance(k, str)]
    why = str(first.get("ctx", {}).get("error")) if first["type"] == "value_error" else "is not allowed"
    problem = f"value {shown(first['input'])} {why}"
    allowed = declaration(root, keys)[0].description
    return input_error(OPTIONS[keys[-1]], problem, "give another value", allowed=allowed)
