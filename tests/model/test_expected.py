"""The expected quantities under either neutrophil structure: finite, and shares of patients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model.expected import Cuts, expected
from mezikd.model.parameters import free, natural
from mezikd.model.trial_design import ARMS, Arm, Design


@pytest.mark.parametrize("structure", ["arrest", "friberg"])
def test_shares_of_patients(structure):
    regions = (27, 109, 88, 64)
    arm = Arm(288, 288, regions)
    design = Design(arm, arm, structure_name=structure, daily_weeks=8, horizon_weeks=60)
    cohorts = [design.cohort(a, 32, 1) for a in ARMS]

    def read(z):
        e = expected(natural(z), design, *cohorts, Cuts())
        return {k: jnp.stack([e.ever(k, a) for a in ARMS]) for k in ("neutropenia", "held", "severe", "pfs_events")}

    out = jax.jit(read)(jnp.zeros(len(free())))
    for name, share in out.items():
        assert np.isfinite(share).all() and (share >= 0.0).all() and (share <= 1.0).all(), name
    assert out["neutropenia"][0] > out["neutropenia"][1], "the drug adds neutropenia"
    assert out["held"][1] == 0.0, "no mezigdomide is held in the control arm"
