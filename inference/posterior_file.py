"""One file per fit: netCDF with the groups of an ArviZ DataTree, self-contained (inference.md, section 4)."""

import hashlib
import io
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
from pydantic import ValidationError

from .errors import InputError, input_error
from .files import read_bytes, write_whole
from .likelihood import Joint
from .places import POSTERIOR
from .problem import FILES, Problem, load_problem
from .seal import check_seal, seal
from .settings import FitSettings

PACKAGES = ("mezikd", "jax", "jaxlib", "numpyro", "arviz", "numpy", "scipy")
FORMAT = 1
DRAWS = "unconstrained_posterior"
RHAT = "max_rhat"
"""Attribute of a thinned fit: R-hat before it was thinned."""
FAILED = "gate_failed"
"""Attribute of a fit that missed its convergence gate: why."""
ATTRIBUTES = frozenset({"created_at", "seconds", "seed", "device", "versions", "settings", "priors_sha256", "joint"})
GROUPS = frozenset({"posterior", DRAWS, "sample_stats"})
"""What every fit to reported numbers has, thinned ones included."""


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
        "versions": json.dumps(versions()),
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


def versions() -> dict[str, str]:
    """Return the versions of the packages on which draws depend."""
    return {p: metadata.version(p) for p in PACKAGES}


def thin(tree: xr.DataTree, draws: int) -> xr.DataTree:
    """Return about ``draws`` evenly spaced draws of a fit, without what only its own checks need, and its R-hat."""
    groups = {}
    for name in ("posterior", DRAWS, "sample_stats"):
        data = tree[name].to_dataset()
        every = max(1, data.sizes["chain"] * data.sizes["draw"] // draws)
        groups[name] = data.isel(draw=slice(None, None, every))
    out = xr.DataTree.from_dict(groups)
    out.attrs.update(tree.attrs)
    out.attrs[RHAT] = whole_rhat(tree)
    return out


def whole_rhat(tree: xr.DataTree) -> float:
    """Return the largest R-hat of a fit, of all its draws where only some are left: fewer draws would say more."""
    if RHAT in tree.attrs:
        return float(tree.attrs[RHAT])
    from .diagnostics import largest_rhat  # arviz takes a second to import

    return largest_rhat(np.asarray(tree[DRAWS]["z"]))


def caution(tree: xr.DataTree) -> str:
    """Return a sentence for all that is made from a fit that missed its convergence gate; empty where it did not."""
    failed = str(tree.attrs.get(FAILED, ""))
    return f"The fit missed its convergence gate ({failed}): its draws are not to be used." if failed else ""


def joint_of(tree: xr.DataTree) -> Joint:
    """Return the joint law of scores that a saved fit used."""
    found = json.loads(tree.attrs["joint"])
    return Joint(*(jnp.asarray(found[k], float) for k in Joint._fields))


def device_name() -> str:
    """Return the platform and kind of the first device."""
    device = jax.devices()[0]
    return f"{device.platform}: {device.device_kind}"


def save(tree: xr.DataTree, path: Path) -> None:
    """Write ``tree``, sealed, to ``path``, which appears only when complete."""
    compressed = {
        f"/{name}": {v: {"zlib": True, "complevel": 4} for v, x in node.data_vars.items() if x.dtype.kind == "f"}
        for name, node in tree.children.items()
    }

    def write(part: Path) -> None:
        tree.to_netcdf(part, engine="h5netcdf", encoding=compressed)
        seal(part)

    write_whole(path, write)


def _everything(file: io.BytesIO) -> xr.DataTree:
    with xr.open_datatree(file, engine="h5netcdf") as tree:
        return tree.load()


def _draws_alone(file: io.BytesIO) -> xr.DataTree:
    with h5py.File(file) as h5:
        z = np.asarray(h5[f"{DRAWS}/z"])
        names = [x.decode() for x in np.asarray(h5[f"{DRAWS}/parameter"])]
        attributes = {
            k: v.item() if np.ndim(v) and np.size(v) == 1 else v for k, v in h5.attrs.items() if not k.startswith("_")
        }
    group = xr.Dataset({"z": (("chain", "draw", "parameter"), z)}, coords={"parameter": names})
    tree = xr.DataTree.from_dict({DRAWS: group})
    tree.attrs.update(attributes)
    return tree


def opened(path: Path, read: Callable[[io.BytesIO], xr.DataTree] = _everything) -> xr.DataTree:
    """Return the DataTree of a fit, loaded: whole, or what ``read`` makes of it.

    Raises
    ------
    InputError: no such file, damaged, no fit of this package, or one of another format.
    """
    remedy = f"name the {POSTERIOR} that `mezikd fit --out` wrote, complete"
    data = read_bytes(path)
    check_seal(path, data, remedy)
    try:
        tree = read(io.BytesIO(data))
        version = int(tree.attrs["mezikd_format"])
    except Exception as error:  # whatever a foreign file makes the reader raise
        raise input_error(path, f"cannot be read as a fit ({type(error).__name__})", remedy) from None
    if version != FORMAT:
        raise input_error(path, f"format {version}, this version reads {FORMAT}", "fit again with this version")
    return tree


def load(path: Path) -> tuple[xr.DataTree, Problem]:
    """Return a saved fit and the problem that it fitted, from the files stored inside it.

    Raises
    ------
    InputError: as ``opened``, one to patients' own tables, or one of a version that knew other settings.
    """
    return _with_problem(path, opened(path), GROUPS)


def load_draws(path: Path) -> tuple[xr.DataTree, Problem]:
    """Return the same with the group of unconstrained draws alone: ten times faster to read than all groups.

    Raises
    ------
    InputError: as ``load``.
    """
    return _with_problem(path, opened(path, _draws_alone), frozenset({DRAWS}))


def _with_problem(path: Path, tree: xr.DataTree, groups: frozenset[str]) -> tuple[xr.DataTree, Problem]:
    if tree.attrs.get("kind") == "patients":
        raise input_error(
            path,
            "a fit to patients' own tables",
            "name a fit to reported numbers; of this one `mezikd predict --patient` predicts a patient",
        )
    if not (set(tree.attrs) >= ATTRIBUTES and set(tree.children) >= groups):
        raise input_error(path, "a fit of an older version", "fit again with this version")
    with tempfile.TemporaryDirectory() as place:
        for name in FILES:
            if f"file:{name}" in tree.attrs:
                (Path(place) / name).write_text(str(tree.attrs[f"file:{name}"]), "utf-8")
        try:
            # As they were used: options of the command line are not in the stored fit.toml.
            settings = FitSettings.model_validate_json(tree.attrs["settings"])
            problem = load_problem(Path(place), settings=settings)
        except (InputError, ValidationError):
            raise input_error(
                path, "a fit of another version: its settings or numbers are not those that this one reads",
                "fit again with this version",
            ) from None  # fmt: skip
    return tree, problem
