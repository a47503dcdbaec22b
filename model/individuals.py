"""From population parameters and effects to each patient's own parameters."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .exposure import LN2, Block
from .parameters import REGIONS, regional
from .patients import Cohort


class Individuals(NamedTuple):
    """Parameters of each patient; every field broadcasts over patients."""

    log_exposure: Float[Array, "patients"]
    """Log of this patient's exposure over the typical one."""
    block: Block
    """Block of the maturation step."""
    log_potency_ratio: Float[Array, "patients"]
    """log(EC50 / EC50_T): turns the block's argument into that of the tumour effect."""
    k_ikaros: Float[Array, ""]
    marrow: Any
    """Rate constants of the neutrophil structure in use."""
    log_anc0: Float[Array, "patients"]
    intensity: Float[Array, "patients"]
    progression_frailty: Float[Array, "patients"]
    infection_rate: Float[Array, "patients"]
    """Late rate of severe infection without drug, 1/day."""


def individuals(theta, cohort: Cohort, structure) -> Individuals:
    """Return the patients of ``cohort`` under population parameters ``theta`` (natural units)."""
    z_exposure, z_anc0, z_maturation, z_intensity, z_progression = jnp.asarray(cohort.z)
    member = jnp.asarray(cohort.region[:, None] == np.arange(len(REGIONS)), float)

    def of_region(quantity):
        return member @ regional(theta, quantity)

    log_ec50 = jnp.log(theta["ec50"]) + of_region("ec50")
    q = jax.nn.sigmoid(
        jnp.log(theta["intensity"]) - jnp.log1p(-theta["intensity"]) + theta["intensity_sd"] * z_intensity
    )
    block = Block(theta["emax"], log_ec50, theta["hill"], LN2 / (theta["half_life_hours"] / 24.0))
    return Individuals(
        log_exposure=theta["exposure_sd"] * z_exposure,
        block=block,
        log_potency_ratio=log_ec50 - jnp.log(theta["ec50_tumour"]),
        k_ikaros=LN2 / theta["ikaros_half_life_days"],
        marrow=structure.rates(theta, jnp.exp(theta["maturation_sd"] * z_maturation)),
        log_anc0=jnp.log(theta["anc0"]) + of_region("anc0") + theta["anc0_sd"] * z_anc0,
        intensity=q,
        progression_frailty=jnp.exp(theta["progression_frailty_sd"] * z_progression),
        infection_rate=theta["infection_rate"] / 30.4375 * jnp.exp(of_region("infection")),
    )
