"""Rival schemes: same state, same blocks, same interface as ``mezikd.model.neutrophils``.

All of them relax the arrest exactly, take T1 exactly and P by the same leapfrog unless said otherwise: what
differs is how T2 -> T3 -> M are stepped, and where A is looked at. "matched" stages look at the straight line
through the means of A over the step's two parts and are guarded, like the package's; the others look at A at
the stage's time, and a negative stage shows as NaN or a wild value.
"""

from types import SimpleNamespace

import jax.numpy as jnp
from mezikd.model import chain as chain_step
from mezikd.model import neutrophils
from mezikd.model.neutrophils import Chain, baseline, blood
from mezikd.model.relaxation import TR_SHARE


def relax(start, level, kt):
    """Return the end value and the mean of a relaxation from ``start`` to ``level``; kt is rate x time."""
    gone = -jnp.expm1(-kt)
    return start + (level - start) * gone, level + (start - level) * gone / kt


def arrest_at(arrest, block, k_ikaros, h: float, share: float):
    """Return A after ``share`` of the step."""
    first, second = block if isinstance(block, tuple) else (block, block)
    if share <= TR_SHARE:
        return first + (arrest - first) * jnp.exp(-k_ikaros * share * h)
    middle = first + (arrest - first) * jnp.exp(-k_ikaros * TR_SHARE * h)
    return second + (middle - second) * jnp.exp(-k_ikaros * (share - TR_SHARE) * h)


def arrest_line(arrest, block, k_ikaros, h: float):
    """Return A as a line in the share of the step, with the means of A over the step's two parts."""
    first, second = block if isinstance(block, tuple) else (block, block)
    middle, mean_g = relax(arrest, first, k_ikaros * (TR_SHARE * h))
    _, mean_1 = relax(middle, second, k_ikaros * ((1.0 - TR_SHARE) * h))
    return lambda share: mean_g + (2.0 * share - TR_SHARE) * (mean_1 - mean_g)


def smooth_minimum(mature, marrow):
    """Return C at M."""
    b = constants(marrow)[2]
    s = mature + b
    return 2.0 * mature * b / (s + jnp.sqrt(s * s - 4.0 * marrow.theta * mature * b))


def constants(marrow):
    """Return (F0, V, b) of the equations."""
    kc, kd, rho, ksat, _, theta = marrow
    f0 = kc + kd * rho
    return f0, (f0 + kd) * (ksat + 1.0), (1.0 + rho - theta) / rho


def slopes(t1, t2, t3, mature, open_, marrow):
    """Return T2', T3', M' of the equations."""
    kc, kd, _, ksat, _, _ = marrow
    f0, v, _ = constants(marrow)
    phi = v * open_ * t2 / (ksat + t2)
    c = smooth_minimum(mature, marrow)
    return (f0 + 2.0 * kd) * t1 - phi - kd * t2, phi - (f0 + kd) * t3, f0 * t3 - kd * mature - (kc - kd) * c


def leapfrog(chain, marrow, h: float):
    """Return log P half a step ahead, and T1 as a function of the share of the step."""
    r1 = constants(marrow)[0] + 3.0 * marrow.k_death
    log_p = chain.log_p + r1 * h * jnp.expm1(-marrow.feedback * jnp.log(chain.t2))
    pool = jnp.exp(log_p)
    return log_p, lambda share: pool + (chain.t1 - pool) * jnp.exp(-r1 * h * share)


def diagonally_implicit(rows, diagonal: float, matched: bool):
    """Return the step of a stiffly accurate SDIRK with the strictly lower ``rows`` and one diagonal entry.

    Its stages are closed-form: the chain is triangular, T2 solves one quadratic and C another.
    """
    shares = [sum(row) + diagonal for row in rows]

    def step(chain, arrest, block, k_ikaros, marrow, h):
        kc, kd, _, ksat, _, theta = marrow
        f0, v, b = constants(marrow)
        w = diagonal * h
        line = arrest_line(arrest, block, k_ikaros, h)

        def guard(x):
            return chain_step.guard(x, h) if matched else x

        def open_at(share):
            return 1.0 - (line(share) if matched else arrest_at(arrest, block, k_ikaros, h, share))

        log_p, t1_at = leapfrog(chain, marrow, h)
        done = []
        for row, share in zip(rows, shares, strict=True):
            open_, t1 = guard(open_at(share)), t1_at(share)
            r2, r3, rm = (
                x + h * sum(a * s[i] for a, s in zip(row, done, strict=True))
                for i, x in enumerate((chain.t2, chain.t3, chain.mature))
            )
            full = guard(r2 + w * (f0 + 2.0 * kd) * t1)
            t2 = chain_step._solve_t2(full, w * v * open_, ksat, 1.0 + w * kd)
            t3 = guard(r3 + full - (1.0 + w * kd) * t2) / (1.0 + w * (f0 + kd))
            full = guard(rm + w * f0 * t3)
            mature, c = chain_step._solve_mature(full, 1.0 + w * kd, w * (kc - kd), theta, b, 1.0 / (1.0 + w * kd))
            done.append(((t2 - r2) / w, (t3 - r3) / w, (mature - rm) / w))
        return Chain(log_p, t1, t2, t3, mature, c)

    return step


def exponential_heun(chain, arrest, block, k_ikaros, marrow, h):
    """Each pool x' = in - a x, exact with frozen in and a, then with their averages (P too); positive."""
    kc, kd, _, ksat, gamma, _ = marrow
    f0, v, _ = constants(marrow)
    r1, feed = f0 + 3.0 * kd, f0 + 2.0 * kd
    first, second = block if isinstance(block, tuple) else (block, block)
    a_g, mean_g = relax(arrest, first, k_ikaros * TR_SHARE * h)
    _, mean_1 = relax(a_g, second, k_ikaros * (1.0 - TR_SHARE) * h)
    open_ = 1.0 - TR_SHARE * mean_g - (1.0 - TR_SHARE) * mean_1

    def coefficients(c):
        pull = v * open_ / (ksat + c.t2)
        out = kd + (kc - kd) * c.blood / c.mature
        growth = r1 * jnp.expm1(-gamma * jnp.log(c.t2))
        return growth, r1 * jnp.exp(c.log_p), feed * c.t1, pull + kd, pull * c.t2, f0 * c.t3, out

    def advance(k):
        growth, in1, in2, out2, in3, in_m, out_m = k

        def exact(x, inflow, rate):
            return x * jnp.exp(-rate * h) - inflow / rate * jnp.expm1(-rate * h)

        mature = exact(chain.mature, in_m, out_m)
        return Chain(
            chain.log_p + growth * h,
            exact(chain.t1, in1, r1),
            exact(chain.t2, in2, out2),
            exact(chain.t3, in3, f0 + kd),
            mature,
            smooth_minimum(mature, marrow),
        )

    start = coefficients(chain)
    end = coefficients(advance(start))
    return advance([0.5 * (x + y) for x, y in zip(start, end, strict=True)])


def runge_kutta_4(chain, arrest, block, k_ikaros, marrow, h):
    """Classical explicit Runge-Kutta on T2, T3, M."""
    log_p, t1_at = leapfrog(chain, marrow, h)
    start = (chain.t2, chain.t3, chain.mature)

    def slope(share, y):
        return slopes(t1_at(share), *y, 1.0 - arrest_at(arrest, block, k_ikaros, h, share), marrow)

    def ahead(k, share):
        return [x + share * h * d for x, d in zip(start, k, strict=True)]

    k1 = slope(0.0, start)
    k2 = slope(0.5, ahead(k1, 0.5))
    k3 = slope(0.5, ahead(k2, 0.5))
    k4 = slope(1.0, ahead(k3, 1.0))
    total = [(a + 2.0 * b + 2.0 * c + d) / 6.0 for a, b, c, d in zip(k1, k2, k3, k4, strict=True)]
    t2, t3, mature = ahead(total, 1.0)
    return Chain(log_p, t1_at(1.0), t2, t3, mature, smooth_minimum(mature, marrow))


def _scheme(step) -> SimpleNamespace:
    return SimpleNamespace(baseline=baseline, blood=blood, step=step)


_G2 = 1.0 - 0.5**0.5
_G3 = 0.43586652150845967
"""Root of g^3 - 3 g^2 + 3/2 g - 1/6: the L-stable choice of Alexander 1977, SIAM J Numer Anal 14:1006."""

_SDIRK2 = ((), (1.0 - _G2,))
_SDIRK3 = (
    (),
    (0.5 * (1.0 - _G3),),
    (-0.25 * (6.0 * _G3**2 - 16.0 * _G3 + 1.0), 0.25 * (6.0 * _G3**2 - 20.0 * _G3 + 5.0)),
)

SCHEMES = {
    "TR-BDF2 (the package's)": neutrophils,
    "SDIRK2": _scheme(diagonally_implicit(_SDIRK2, _G2, matched=False)),
    "SDIRK2, matched": _scheme(diagonally_implicit(_SDIRK2, _G2, matched=True)),
    "SDIRK3 (Alexander)": _scheme(diagonally_implicit(_SDIRK3, _G3, matched=False)),
    "SDIRK3, matched": _scheme(diagonally_implicit(_SDIRK3, _G3, matched=True)),
    "exponential Heun": _scheme(exponential_heun),
    "explicit Runge-Kutta 4": _scheme(runge_kutta_4),
}
