"""`mezikd simulate`: one virtual trial as patient tables."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from .errors import input_error, nearest_first, shown
from .places import built_in_fit, find_posterior
from .regimen_options import CycleDays, DaysOn, Dose, Fit, Rdi, Scenarios, regimen_given
from .results_folder import writing_to
from .vocabulary import REGIONS

ARM_CHOICES = {"mezikd": ("mezikd",), "kd": ("kd",), "both": ("mezikd", "kd")}
FORMATS = ("csv", "parquet")
DRAWS = ("posterior-mean", "random")
HIGHEST_DOSE_MG, LONGEST_CYCLE = 10.0, 84


def _chosen(option: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        near = nearest_first(value, choices)[0]
        raise input_error(option, f"{shown(value)} is not known", f"did you mean {near}?", allowed=", ".join(choices))
    return value


def _within(option: str, value: float | None, good: bool, allowed: str) -> None:
    if value is not None and not good:
        raise input_error(option, f"value {value:g} is not allowed", "give another value", allowed=allowed)


def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the tables; made if missing.")],
    fit: Fit = None,
    patients: Annotated[
        int, typer.Option(help="Patients of the mezigdomide arm, 1 to 10000; Kd as many as the trial's ratio asks for.")
    ] = 288,
    seed: Annotated[int, typer.Option(help="Seed of every chance, from 0.")] = 1,
    arm: Annotated[str, typer.Option(help="mezikd, kd or both.")] = "both",
    dose: Dose = None,
    days_on: DaysOn = None,
    cycle_days: CycleDays = None,
    rdi: Rdi = None,
    scenarios: Scenarios = None,
    scenario: Annotated[
        str | None, typer.Option(help="Name of the scenario in that file that is simulated [default: its only one].")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(help="All patients in one region: usa, europe, asia, rest_of_world [default: the trial's mix]."),
    ] = None,
    format: Annotated[str, typer.Option(help="csv, or parquet (needs pyarrow).")] = "csv",
    draw: Annotated[str, typer.Option(help="Parameter values: posterior-mean, or one random draw.")] = "posterior-mean",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace tables that are there.")] = False,
) -> None:
    """Simulate one trial and write patient tables: adsl, adex, adlb, adae, adtte, nonmem, explained in define.md.

    Example: mezikd simulate runs/successor2 --patients 288 --seed 1 --out runs/trial1

    Example: mezikd simulate --arm mezikd --dose 0.6 --days-on 14 --format parquet --out runs/lower_dose

    Example: mezikd simulate --scenarios my_rules.toml --scenario "hold below 1.0" --out runs/rules
    """
    arms = ARM_CHOICES[_chosen("--arm", arm, tuple(ARM_CHOICES))]
    suffix = "." + _chosen("--format", format, FORMATS)
    _chosen("--draw", draw, DRAWS)
    if region is not None:
        _chosen("--region", region, REGIONS)
    _within("--patients", patients, 1 <= patients <= 10_000, "1 to 10000")
    _within("--seed", seed, 0 <= seed < 2**31, f"0 to {2**31 - 1}")
    _within("--dose", dose, 0.0 < (dose or 0.0) <= HIGHEST_DOSE_MG, f"mg, above 0 and at most {HIGHEST_DOSE_MG:g}")
    _within("--days-on", days_on, 1 <= (days_on or 0) <= LONGEST_CYCLE, f"1 to {LONGEST_CYCLE}")
    whole_weeks = cycle_days is not None and 7 <= cycle_days <= LONGEST_CYCLE and cycle_days % 7 == 0
    _within("--cycle-days", cycle_days, whole_weeks, f"a multiple of 7, 7 to {LONGEST_CYCLE}")
    _within("--rdi", rdi, 0.0 < (rdi or 0.0) <= 1.0, "above 0 and at most 1 (0.8 for 80 %)")
    regimen = regimen_given(dose, days_on, cycle_days)
    if arms == ("kd",) and (regimen or rdi is not None or scenarios is not None):
        raise input_error("--arm", "kd gives no mezigdomide, but a regimen is given", "leave out one of them")
    if scenarios is None and scenario is not None:
        raise input_error("--scenario", "given without --scenarios", "name the file that it is in")
    if scenarios is not None and (regimen or rdi is not None):
        raise input_error("--scenarios", "given beside a regimen", "give one of them: write the regimen into the file")
    if format == "parquet" and find_spec("pyarrow") is None:
        raise input_error("--format", "parquet needs pyarrow", "pip install 'mezikd[parquet]', or --format csv")
    posterior = find_posterior(built_in_fit() if fit is None else fit)
    from .scenario_files import read_scenarios

    source = None if scenarios is None else read_scenarios(scenarios, {})
    order = {"patients": patients, "arms": arms, "region": region, "draw": draw, "seed": seed}
    with writing_to(out):
        from .virtual_tables import check_folder, run_simulate

        check_folder(out, overwrite)
        run_simulate(posterior, out, order, regimen, rdi, suffix, source, scenario)
