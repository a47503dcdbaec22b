"""The other trial of a joint fit: its reported numbers, read and checked against the fit of the patients."""

from pathlib import Path

from mezikd.model.parameters import free

from .arrest_settings import ArrestFit, Joint
from .arrest_target import ArrestInputs, ArrestTarget
from .errors import input_error
from .joint_target import JointInputs, JointTarget
from .places import built_in_fit
from .problem import Problem, load_problem

BUILT_IN = "built-in"


def load_other(folder: Path, settings: ArrestFit, joint: Joint) -> Problem:
    """Return the fit whose reported numbers [joint] of ``folder``/fit.toml names.

    Raises
    ------
    InputError: no such folder, a mistake in its files, another structure than the patients', or a shared parameter that it
    does not estimate or gives another prior.
    """
    path = folder / "fit.toml"
    other = built_in_fit() if joint.evidence == BUILT_IN else folder / joint.evidence
    if not (other / "evidence.csv").is_file():
        problem = f"key `joint.evidence`: {other} holds no evidence.csv"
        raise input_error(path, problem, 'write "built-in" or name the folder of a fit to reported numbers')
    problem = load_problem(other)
    if problem.settings.model.structure != "arrest":
        what = f'key `model.structure`: "{problem.settings.model.structure}", but the patients have "arrest"'
        raise input_error(other / "fit.toml", what, 'write "arrest": a joint fit has one structure')
    theirs, mine = {p.name: p for p in free(problem.parameters)}, {p.name: p for p in free(settings.declared)}
    for name in joint.shared:
        if name not in theirs:
            what = f"key `joint.shared`: {name} is not estimated in {other}"
            raise input_error(path, what, "leave it out", allowed=", ".join(n for n in mine if n in theirs))
        priors = [(p.centre, p.spread) for p in (mine[name], theirs[name])]
        if priors[0] != priors[1]:
            (a, b), (c, d) = priors
            what = f"key `joint.shared`: {name} has prior {a:g} (spread {b:g}) here, {c:g} (spread {d:g}) in {other}"
            raise input_error(path, what, "give both the same prior: in [parameters] or in priors.csv")
    return problem


def build_joint(
    single: ArrestTarget, patients: ArrestInputs, other: Problem, joint: Joint
) -> tuple[JointTarget, JointInputs]:
    """Return the joint log-density and what it is given; the reported numbers as if independent."""
    target = JointTarget(single, other.target, joint.shared, joint.between_trial_sd)
    return target, JointInputs.of(patients, other.target.data)
