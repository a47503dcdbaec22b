"""What happens to a patient: pure functions of parameters, without data, sampler or files."""

import jax

jax.config.update("jax_enable_x64", True)
