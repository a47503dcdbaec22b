"""One file per fit: netCDF with the groups of an ArviZ DataTree, self-contained (inference.md, section 4)."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from .errors import input_error
from .likelihood import Joint
from .problem import FILES, Problem, load_problem
from .settings import FitSettings

PACKAGES = ("mezikd", "jax", "jaxlib", "numpyro", "arviz", "numpy", "scipy")
FORMAT = 1
DRAWS = "unconstrained_posterior"


def natural_dataset(z: np.ndarray, problem: Problem) -> xr.Dataset:
    """Return the estimated parameters in their own units; ``z`` has shape ``(chain, draw, parameter)``."""
    data = {
        p.name: (("chain", "draw"), np.asarray(p.from_standard(z[..., i])), {"unit": p.unit, "meaning": p.meaning})
        for i, p in enumerate(problem.free)
    }
    coords = {"chain": np.arange(z.shape[0]), "draw": np.arange(z.shape[1])}
    return xr.Dataset(data, coords=coords)


def row_names(problem: Problem) -> list[str]:
    """Return the names of the evidence rows, as id/arm/subgroup."""
    return [r.name for r in problem.evidence.rows]


def build_tree(
    problem: Problem,
    z: np.ndarray,
    stats: dict[str, np.ndarray],
    log_likelihood: dict[str, np.ndarray],
    simulated: np.ndarray,
    attributes: dict[str, Any],
) -> xr.DataTree:
    """Return the DataTree of a fit; arrays of draws have shape ``(chain, draw)``, ``simulated`` ``(draw, row, 3)``."""
    rng = np.random.default_rng([problem.settings.sampler.seed, 3])
    prior = natural_dataset(rng.standard_normal((1, 2000, z.shape[-1])), problem)
    posterior = natural_dataset(z, problem)
    chains = {"chain": posterior["chain"].values, "draw": posterior["draw"].values}
    shown = next(iter(log_likelihood.values())).shape[1]
    every = max(1, z.shape[1] // shown)
    thinned = chains | {"draw": chains["draw"][::every][:shown]}
    rows, part = row_names(problem), ["low", "value", "high"]
    frame = problem.evidence.frame()
    observed = frame[["low", "value", "high"]].to_numpy(float)
    constant = {
        c: ("row", frame[c].astype(str).to_numpy(dtype=object))
        for c in ("id", "arm", "subgroup", "outcome", "statistic", "interval", "unit", "where", "role", "given")
    }
    constant["denominator"] = ("row", frame["denominator"].to_numpy(float))
    predictive_coords = {"chain": [0], "draw": np.arange(len(simulated)), "row": rows, "part": part}
    groups = {
        "prior": prior,
        "posterior": posterior,
        DRAWS: xr.Dataset(
            {"z": (("chain", "draw", "parameter"), z)}, coords=chains | {"parameter": [p.name for p in problem.free]}
        ),
        "sample_stats": xr.Dataset({k: (("chain", "draw"), v) for k, v in stats.items()}, coords=chains),
        "log_likelihood": xr.Dataset(
            {k.replace("/", "__"): (("chain", "draw"), v) for k, v in log_likelihood.items()}, coords=thinned
        ),
        "posterior_predictive": xr.Dataset(
            {"reported": (("chain", "draw", "row", "part"), simulated[None])}, coords=predictive_coords
        ),
        "observed_data": xr.Dataset({"reported": (("row", "part"), observed)}, coords={"row": rows, "part": part}),
        "constant_data": xr.Dataset(constant, coords={"row": rows}),
    }
    tree = xr.DataTree.from_dict(groups)
    tree.attrs.update(attributes)
    return tree


def attributes(problem: Problem, seconds: float, joint: Joint) -> dict[str, Any]:
    """Return what makes a fit reproducible: versions, seed, device, the input files and their hashes, time."""
    texts = problem.texts()
    out: dict[str, Any] = {
        "mezikd_format": FORMAT,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "seed": problem.settings.sampler.seed,
        "device": device_name(),
        "versions": json.dumps({p: metadata.version(p) for p in PACKAGES}),
        "settings": problem.settings.model_dump_json(),
        "evidence_sha256": problem.evidence.sha256,
        "priors_sha256": hashlib.sha256(texts.get("priors.csv", "").encode()).hexdigest(),
        "joint": json.dumps(
            {"scores": problem.target.score_names}
            | {k: np.round(np.asarray(x), 10).tolist() for k, x in joint._asdict().items()}
        ),
    }
    out |= {f"file:{name}": text for name, text in texts.items()}
    return out


def thin(tree: xr.DataTree, draws: int) -> xr.DataTree:
    """Return about ``draws`` evenly spaced draws of a fit, without what only its own checks need."""
    groups = {}
    for name in ("posterior", DRAWS, "sample_stats"):
        data = tree[name].to_dataset()
        every = max(1, data.sizes["chain"] * data.sizes["draw"] // draws)
        groups[name] = data.isel(draw=slice(None, None, every))
    out = xr.DataTree.from_dict(groups)
    out.attrs.update(tree.attrs)
    return out


def joint_of(tree: xr.DataTree) -> Joint:
    """Return the joint law of scores that a saved fit used."""
    found = json.loads(tree.attrs["joint"])
    return Joint(*(jnp.asarray(found[k], float) for k in Joint._fields))


def device_name() -> str:
    """Return the platform and kind of the first device."""
    device = jax.devices()[0]
    return f"{device.platform}: {device.device_kind}"


def save(tree: xr.DataTree, path: Path) -> None:
    """Write ``tree`` to ``path``, which appears only when complete."""
    partial = path.with_name(path.name + ".part")
    compressed = {
        f"/{name}": {v: {"zlib": True, "complevel": 4} for v, x in node.data_vars.items() if x.dtype.kind == "f"}
        for name, node in tree.children.items()
    }
    tree.to_netcdf(partial, engine="h5netcdf", encoding=compressed)
    partial.replace(path)


def load(path: Path) -> tuple[xr.DataTree, Problem]:
    """Return a saved fit and the problem that it fitted, from the files stored inside it.

    Raises
    ------
    InputError: no fit of this package, one of another format, or one to patients' own tables.
    """

    def everything():
        with xr.open_datatree(path, engine="h5netcdf") as opened:
            return opened.load()

    return _load(path, everything)


def load_draws(path: Path) -> tuple[xr.DataTree, Problem]:
    """Return the same with the group unconstrained_posterior alone: ten times faster to read than all groups.

    Raises
    ------
    InputError: as ``load``.
    """

    def draws():
        with h5py.File(path) as file:
            z = np.asarray(file[f"{DRAWS}/z"])
            names = [x.decode() for x in np.asarray(file[f"{DRAWS}/parameter"])]
            attributes = {
                k: v.item() if np.ndim(v) and np.size(v) == 1 else v
                for k, v in file.attrs.items()
                if not k.startswith("_")
            }
        group = xr.Dataset({"z": (("chain", "draw", "parameter"), z)}, coords={"parameter": names})
        tree = xr.DataTree.from_dict({DRAWS: group})
        tree.attrs.update(attributes)
        return tree

    return _load(path, draws)


def _load(path: Path, read: Callable[[], xr.DataTree]) -> tuple[xr.DataTree, Problem]:
    remedy = "name the posterior.nc that `mezikd fit --out` wrote, complete"
    try:
        tree = read()
        version = int(tree.attrs["mezikd_format"])
    except (OSError, KeyError, ValueError) as error:
        raise input_error(path, f"cannot be read as a fit ({type(error).__name__})", remedy) from None
    if version != FORMAT:
        raise input_error(path, f"format {version}, this version reads {FORMAT}", "fit again with this version")
    if tree.attrs.get("kind") == "patients":
        raise input_error(
            path, "a fit to patients' own tables", "name a fit to reported numbers: only those predict yet"
        )
    if "joint" not in tree.attrs:
        raise input_error(path, "a fit of an older version", "fit again with this version")
    with tempfile.TemporaryDirectory() as place:
        for name in FILES:
            if f"file:{name}" in tree.attrs:
                (Path(place) / name).write_text(str(tree.attrs[f"file:{name}"]), "utf-8")
        # As they were used: options of the command line are not in the stored fit.toml.
        settings = FitSettings.model_validate_json(tree.attrs["settings"])
        problem = load_problem(Path(place), settings=settings)
    return tree, problem
