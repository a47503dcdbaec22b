"""The command line. Inputs are checked here, before anything heavy is imported."""

import gc
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from .commands_calibrate import calibrate
from .commands_predict import predict
from .commands_report import report
from .commands_sensitivity import sensitivity
from .commands_simulate import simulate
from .commands_structures import compare
from .commands_tables import tables
from .devices import use_device
from .errors import InputError, input_error, one_line, system_error
from .patient_settings import has_tables, with_patient_overrides
from .places import built_in_fit, find_posterior
from .results_folder import Stopped, writing_to

DONE, BAD_INPUT, GATE_FAILED, INTERRUPTED = 0, 2, 3, 130
# Base of every usage error, whether typer brings click along (0.25 on) or depends on it.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    help="Patient-level Bayesian model of mezigdomide in relapsed myeloma, fitted to what a trial reported.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mezikd {metadata.version('mezikd')}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Patient-level Bayesian model of mezigdomide in relapsed myeloma, fitted to what a trial reported.

    Exit codes: 0 done, 2 bad input, 3 sampled but the convergence gate failed, 130 interrupted.
    """


@app.command()
def fit(
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder with fit.toml, evidence.csv, priors.csv, or with fit.toml and patients' table [default: the built-in fit]."
        ),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew instead of resuming.")] = False,
    chains: Annotated[int | None, typer.Option(help="Chains [default: fit.toml].")] = None,
    warmup: Annotated[int | None, typer.Option(help="Warm-up draws a chain [default: fit.toml].")] = None,
    draws: Annotated[int | None, typer.Option(help="Kept draws a chain [default: fit.toml].")] = None,
    virtual_patients: Annotated[
        int | None,
        typer.Option(help="Virtual patients of the mezigdomide arm, half as many of Kd [default: fit.toml]."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampler [default: fit.toml].")] = None,
    structure: Annotated[
        str | None, typer.Option(help="Neutrophil model: arrest or friberg (kill) [default: fit.toml].")
    ] = None,
    tumour: Annotated[str | None, typer.Option(help="Tumour effect: memory or no_memory [default: fit.toml].")] = None,
    infection: Annotated[
        str | None, typer.Option(help="Infection hazard: neutrophils or no_neutrophils [default: fit.toml].")
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(
            help="Fit without a group of numbers, to see how the others predict it: neutropenia, dosing, infection, "
            "'progression and death', 'treatment and follow-up'."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Sampler: nuts, emulated (several times faster on a CPU), or side_by_side (many chains in one program, for a "
            "GPU: --chains 64) [default: fit.toml]."
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="Processor: cpu, gpu, or auto (GPUs where there are some; virtual patients are spread over all); gpu:2 takes two."
        ),
    ] = "auto",
) -> None:
    """Fit the model to the reported numbers of a trial, or to patients' own tables: fit.toml with a section [tables].

    Example: mezikd fit --out runs/successor2 --chains 4 --draws 500

    Example: mezikd fit my_patients --out runs/my_patients
    """
    given = {
        "chains": chains,
        "warmup": warmup,
        "draws": draws,
        "virtual_patients": virtual_patients,
        "seed": seed,
        "structure": structure,
        "tumour": tumour,
        "infection": infection,
        "leave_out": leave_out,
        "method": method,
    }
    overrides: dict[str, int | str] = {name: value for name, value in given.items() if value is not None}
    folder = built_in_fit() if folder is None else folder
    with writing_to(out):
        devices = use_device(device)
        if has_tables(folder):
            if devices is not None:
                problem = f"value {device} spreads virtual patients, and a fit to patients' own tables has none"
                raise input_error("--device", problem, "leave the number out")
            passed = _fit_patients(folder, out, overrides, restart)
        else:
            validate(folder, overrides)
            from .pipeline import run_fit

            passed = run_fit(folder, out, overrides, restart, devices)
    if not passed:
        raise typer.Exit(GATE_FAILED)


def _fit_patients(folder: Path, out: Path, overrides: dict[str, int | str], restart: bool) -> bool:
    """Fit patients' own tables; return whether the convergence gate was passed."""
    from .arrest_settings import ArrestFit, is_arrest  # here: it loads jax

    if is_arrest(folder):
        arrest = with_patient_overrides(folder, overrides, ArrestFit)
        if arrest.joint is not None:
            from .joint_fit import run_joint_fit

            return run_joint_fit(folder, out, arrest, arrest.joint, restart)
        from .arrest_fit import run_arrest_fit

        return run_arrest_fit(folder, out, arrest, restart)
    patients = with_patient_overrides(folder, overrides)
    from .patient_fit import run_patient_fit

    return run_patient_fit(folder, out, patients, restart)


@app.command()
def check(
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    fit: Annotated[
        Path | None,
        typer.Argument(help="posterior.nc of a fit, or the folder that holds it [default: the shipped posterior]."),
    ] = None,
    trials: Annotated[int, typer.Option(help="Simulated trials, 10 to 100000.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed of the simulation, from 0.")] = 1,
) -> None:
    """Compare reported numbers with trials simulated from the posterior.

    Example: mezikd check runs/successor2 --out runs/successor2/check --trials 400
    """
    for option, value, low, high in (("--trials", trials, 10, 100_000), ("--seed", seed, 0, 2**31 - 1)):
        if not low <= value <= high:
            raise input_error(option, f"value {value} is not allowed", "give another value", allowed=f"{low} to {high}")
    posterior = find_posterior(built_in_fit() if fit is None else fit)
    with writing_to(out):
        from .pipeline import run_check

        run_check(posterior, out, trials, seed)


app.command()(calibrate)
app.command()(compare)
app.command()(predict)
app.command()(report)
app.command()(sensitivity)
app.command()(simulate)
app.command()(tables)


def validate(folder: Path, overrides: Mapping[str, int | str]) -> None:
    """Read every input of a fit and raise InputError at the first mistake."""
    from .settings import load_settings, with_overrides

    if not folder.is_dir():
        what = "is a file" if folder.exists() else "there is no such folder"
        raise input_error(folder, what, "name the folder that holds fit.toml and evidence.csv")
    settings = with_overrides(load_settings(folder), overrides)
    from .evidence import load_evidence

    load_evidence(folder, settings)
    if (folder / "priors.csv").exists():
        from mezikd.model.parameters import DECLARED

        from .priors import load_priors

        load_priors(folder, DECLARED)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; user mistakes become one line on stderr."""
    try:
        code = app(arguments, prog_name="mezikd", standalone_mode=False) or DONE
    except InputError as error:
        return _say(str(error), BAD_INPUT)
    except USAGE_ERROR as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "mezikd"
        text = getattr(error, "format_message", error.__str__)()
        return _say(f"{' '.join(text.split()).rstrip('.')}; see `{command} --help`", BAD_INPUT)
    except Stopped as stopped:
        return _say(str(stopped), INTERRUPTED)
    except OSError as error:
        return _say(str(system_error(error)), BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    # typer turns an interrupt inside a command into this exit code.
    return _say("interrupted", INTERRUPTED) if code == INTERRUPTED else code


def _say(message: str, code: int) -> int:
    for line in message.splitlines() or [""]:
        typer.echo(f"mezikd: {one_line(line)}", err=True)
    return code


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of `mezikd`. SIGTERM, which batch systems send before they kill, is an interrupt like Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)
    gc.set_threshold(100_000)  # what imports and tracing make stays: looking for garbage in it took a second
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is written: neither threads that still compile nor the end of the interpreter are waited for.
    os._exit(code)


if __name__ == "__main__":
    main()
