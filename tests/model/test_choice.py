"""Several neutrophil structures, with and without G-CSF, in one program: each patient's history is that of the program made for it alone."""

import jax
import numpy as np
import pytest
from exact_cases import PATIENTS, POTENT, REGION, WEEKS, prior_median
from mezikd.model.exact import Batch, Form, simulate_batch
from mezikd.model.patients import EFFECTS
from mezikd.model.plan import plan_of
from mezikd.model.scenario import Gcsf, Scenario

DRAWS = 2
BOTH = ("arrest", "friberg")
NO_DRUG, DRUG, WITH_GCSF = Scenario(arm="kd"), Scenario(), Scenario(gcsf=Gcsf("primary"))


def histories(scenario: Scenario, form: Form, number: int = 0) -> dict[str, np.ndarray]:
    theta = {k: np.full(DRAWS, float(v)) for k, v in (prior_median() | POTENT).items()}
    z = np.random.default_rng(9).standard_normal((DRAWS, len(EFFECTS), PATIENTS))
    keys = jax.random.split(jax.random.key(3), DRAWS)
    batch = Batch(theta, z, REGION, keys, structure=np.asarray(number, np.int32))
    return jax.tree.map(np.asarray, simulate_batch(batch, plan_of(scenario, WEEKS), form))._asdict()


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("scenario", [NO_DRUG, DRUG, WITH_GCSF], ids=["no drug", "drug", "G-CSF"])
def test_one_of_several_structures_is_itself(scenario, name):
    together = histories(scenario, Form(BOTH), BOTH.index(name))
    for field, x in histories(scenario, Form((name,))).items():
        np.testing.assert_allclose(together[field], x, rtol=1e-12, err_msg=field)


def test_the_structures_differ():
    one, other = (histories(DRUG, Form(BOTH), i) for i in range(2))
    assert np.abs(one["nadir"] - other["nadir"]).max() > 0.1


@pytest.mark.parametrize("scenario", [NO_DRUG, DRUG], ids=["no drug", "drug"])
def test_a_program_without_gcsf_gives_what_one_with_it_gives(scenario):
    without = histories(scenario, Form(BOTH, gcsf=False), 1)
    for field, x in histories(scenario, Form(BOTH), 1).items():
        np.testing.assert_allclose(without[field], x, rtol=1e-12, err_msg=field)
