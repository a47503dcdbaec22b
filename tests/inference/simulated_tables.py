"""Tables of simulated trials, as `mezikd simulate` writes them, for tests that fit them."""

from pathlib import Path

import numpy as np
from mezikd.inference import posterior_file
from mezikd.inference.commands import built_in_fit
from mezikd.inference.virtual_tables import ordered_scenario, tables_of
from mezikd.inference.virtual_trial import Order, VirtualTrial, simulate_virtual_trial

NAMES = ("adsl", "adex", "adlb", "adae", "adtte")


def simulated_trial(patients: int) -> VirtualTrial:
    """Return a trial of both arms with ``patients`` patients on the drug, at the shipped posterior's mean."""
    tree, problem = posterior_file.load(built_in_fit() / "posterior.nc")
    z = np.asarray(tree["unconstrained_posterior"]["z"])
    order = Order(patients, ("mezikd", "kd"), ordered_scenario(problem, {}, None), None, "posterior-mean", 5)
    return simulate_virtual_trial(z, problem, order)


def write_tables(place: Path, trial: VirtualTrial) -> None:
    """Write the ADaM-like tables of ``trial`` to ``place``."""
    made = tables_of(trial, "test")
    for name in NAMES:
        made[name].to_csv(place / f"{name}.csv", index=False)
