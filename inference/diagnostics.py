"""The convergence gate: R-hat, effective sample sizes, divergences, E-BFMI (inference.md, section 4)."""

from dataclasses import asdict, dataclass

import arviz as az
import numpy as np
import xarray as xr

MAX_RHAT, MIN_ESS, MAX_DIVERGENT, MIN_BFMI = 1.01, 400.0, 0.001, 0.3


@dataclass(frozen=True)
class Diagnostics:
    """What diagnostics.json holds."""

    max_rhat: float
    min_ess_bulk: float
    min_ess_tail: float
    divergences: int
    ebfmi_min: float
    seconds: float
    """Of the whole fit, compilation included."""
    gradient_ms: float
    """Wall time of one gradient of one chain, all cores busy."""
    gradients: int
    """With method "emulated" both tell of computations of the model without gradient."""
    virtual_patients: int
    device: str
    gate: str
    """pass or fail."""
    failed: str
    """Which criteria failed, with their values; empty when none did."""
    draws: int
    chains: int
    mean_steps: float
    """Gradients per draw."""
    sampling_seconds: float
    worst_parameter: str
    """The parameter with the largest R-hat."""
    sampling_cpu_seconds: float | None = None
    """Of all cores, while sampling; fits to patients' own data."""

    def as_dict(self) -> dict:
        """Return the fields, for JSON."""
        return asdict(self)


def largest_rhat(z: np.ndarray) -> float:
    """Return the largest R-hat of the coordinates ``z`` (chain, draw, parameter)."""
    return float(az.rhat(xr.Dataset({"z": (("chain", "draw", "parameter"), z)}))["z"].max())


def mixed(z: np.ndarray) -> bool:
    """Return whether R-hat and effective sample sizes of ``z`` (chain, draw, parameter) pass the gate."""
    return passes(xr.Dataset({"z": (("chain", "draw", "parameter"), z)}))


def passes(posterior: xr.Dataset) -> bool:
    """Return whether R-hat and effective sample sizes of ``posterior`` (chain, draw, ...) pass the gate."""
    sizes = [float(v.min()) for method in ("bulk", "tail") for v in az.ess(posterior, method=method).values()]
    return max(float(v.max()) for v in az.rhat(posterior).values()) <= MAX_RHAT and min(sizes) >= MIN_ESS


def diagnose(posterior: xr.Dataset, energy: np.ndarray, diverging: np.ndarray, **timing) -> Diagnostics:
    """Return the diagnostics of ``posterior`` (chain, draw, ...); ``energy`` and ``diverging`` have shape (chain, draw)."""
    rhat = {k: float(v.max()) for k, v in az.rhat(posterior).items()}
    bulk = {k: float(v.min()) for k, v in az.ess(posterior, method="bulk").items()}
    tail = {k: float(v.min()) for k, v in az.ess(posterior, method="tail").items()}
    steps = np.diff(energy, axis=1)
    bfmi = float((np.square(steps).mean(axis=1) / energy.var(axis=1)).min())
    worst = max(rhat, key=lambda k: rhat[k] if np.isfinite(rhat[k]) else np.inf)
    checks = {
        f"R-hat of {worst} {rhat[worst]:.3f} above {MAX_RHAT}": rhat[worst] <= MAX_RHAT,
        f"bulk ESS {min(bulk.values()):.0f} below {MIN_ESS:.0f}": min(bulk.values()) >= MIN_ESS,
        f"tail ESS {min(tail.values()):.0f} below {MIN_ESS:.0f}": min(tail.values()) >= MIN_ESS,
        f"divergences {int(diverging.sum())} above 0.1 %": diverging.mean() <= MAX_DIVERGENT,
        f"E-BFMI {bfmi:.2f} below {MIN_BFMI}": bfmi >= MIN_BFMI,
    }
    failed = "; ".join(k for k, ok in checks.items() if not ok)
    return Diagnostics(
        max_rhat=rhat[worst],
        min_ess_bulk=min(bulk.values()),
        min_ess_tail=min(tail.values()),
        divergences=int(diverging.sum()),
        ebfmi_min=bfmi,
        gate="fail" if failed else "pass",
        failed=failed,
        worst_parameter=worst,
        **timing,
    )
