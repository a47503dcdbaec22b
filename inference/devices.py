"""Which processor a fit runs on."""

from typing import Literal, get_args

from .errors import input_error, shown

Device = Literal["auto", "cpu", "gpu"]


def use_device(name: str) -> None:
    """Let JAX run on the CPU, on a GPU, or ('auto') on a GPU where it finds one; call before anything is computed.

    Raises
    ------
    InputError: another name, or 'gpu' where JAX finds none.
    """
    known = get_args(Device)
    if name not in known:
        raise input_error("--device", f"value {shown(name)} is not allowed", "name one", allowed=", ".join(known))
    if name == "auto":
        return
    import jax

    jax.config.update("jax_platforms", "cuda,cpu" if name == "gpu" else "cpu")
    if name == "gpu":
        try:
            jax.devices("gpu")
        except RuntimeError:
            remedy = "install the extra: pip install 'mezikd[cuda]', on a machine with an NVIDIA GPU; or --device cpu"
            raise input_error("--device", "value gpu, and JAX finds no GPU here", remedy) from None
