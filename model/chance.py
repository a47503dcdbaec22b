"""Random numbers by counter: the k-th number of a patient in a week is a function of (key, week, k, patient) alone.

Threefry-2x32 with 20 rounds (Salmon 2011, SC'11, "Parallel random numbers: as easy as 1, 2, 3"), as in jax.random, but
unrolled so that it fuses with what reads it, and two numbers a block. Patients keep their luck when others are added, and
two scenarios with one key differ by the scenario alone.
"""

import jax
import jax.numpy as jnp
import numpy as np

from .elementary import log, once

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_MAGIC = np.uint64(0x4330000000000000)
_TWO_PI = 6.283185307179586


def threefry(key, x0, x1):
    """Return the two words of the block cipher at counter ``(x0, x1)``, uint32; ``key`` holds two words."""
    words = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x0, x1 = x0 + words[0], x1 + words[1]
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            x0 = x0 + x1
            x1 = ((x1 << np.uint32(r)) | (x1 >> np.uint32(32 - r))) ^ x0
        x0, x1 = x0 + words[(i + 1) % 3], x1 + words[(i + 2) % 3] + np.uint32(i + 1)
    return x0, x1


def _unit(word):
    """Return a word below 2^32, uint64, as a number inside (0, 1), in steps of 2^-32."""
    # The bits of 2^52 or'ed with the word are their sum: AVX2 has no instruction to convert 64 bits.
    number = jax.lax.bitcast_convert_type(word | _MAGIC, jnp.float64) - 2.0**52
    return (number + 0.5) * 2.0**-32


def _cosine(turns):
    """Return cos(2 pi turns) for turns in [0, 1], to 1e-11: jnp.cos in double precision is a scalar call on a CPU."""
    x = _TWO_PI * (jnp.abs(turns - 0.5) - 0.25)  # in [-pi/2, pi/2], where the cosine is this angle's sine
    y, series = x * x, 1.0
    for n in range(16, 0, -2):
        series = 1.0 - y * (1.0 / (n * (n + 1))) * series
    return x * series


def words_of(key):
    """Return the two words of a key, uint32."""
    data = jax.random.key_data(key)
    return data[..., 0], data[..., 1]


def keys_of(seed: int, *numbers):
    """Return ``jax.random.key(seed)`` with each of ``numbers`` (below 2^32; int or array) folded in in turn, an array of keys.

    The same keys as by ``jax.random.fold_in``, for which several small programs would be compiled.
    """
    upper, lower = np.atleast_1d(seed) >> 32, np.atleast_1d(seed) & 0xFFFFFFFF
    words = upper.astype(np.uint32), lower.astype(np.uint32)
    for number in numbers:
        words = threefry(words, np.zeros(1, np.uint32), np.atleast_1d(number).astype(np.uint32))
    return jax.random.wrap_key_data(np.stack(words, axis=-1), impl="threefry2x32")  # pyright: ignore[reportArgumentType]


class Chance:
    """The random numbers of one step (a week, or what is drawn before the first), in the order of the calls."""

    def __init__(self, key, step, patients, drawn: int = 0):
        """Begin a step.

        Parameters
        ----------
        key: a key, or its two words (``words_of``), each for all patients or one a patient.
        patients: how many, or their numbers, uint32.
        drawn: numbers of the step that are left out, an even number.
        """
        self._key = key if isinstance(key, tuple) else words_of(key)
        self._step = jnp.asarray(step, jnp.uint32) * np.uint32(64)
        self._patients = jnp.arange(patients, dtype=jnp.uint32) if isinstance(patients, int) else patients
        self._spare, self._calls = None, drawn // 2

    @property
    def drawn(self) -> int:
        """Numbers drawn so far in the step."""
        return 2 * self._calls - (self._spare is not None)

    def uniform(self):
        """Return uniform numbers inside (0, 1), shape ``patients``."""
        if self._spare is not None:
            u, self._spare = self._spare, None
            return u
        if self._calls == 64:
            raise RuntimeError("more than 128 numbers in a step")
        counter = self._step + np.uint32(self._calls)
        self._calls += 1
        first, second = threefry(self._key, counter, self._patients)
        # One array for both words: two would each compute the whole block.
        both = once((first.astype(jnp.uint64) << np.uint64(32)) | second.astype(jnp.uint64))
        self._spare = _unit(both & np.uint64(0xFFFFFFFF))
        return _unit(both >> np.uint64(32))

    def exponential(self):
        """Return exponential numbers of mean 1."""
        return -log(self.uniform())

    def normal(self):
        """Return standard normal numbers (Box and Muller 1958)."""
        radius = jnp.sqrt(-2.0 * log(self.uniform()))
        return once(radius * _cosine(self.uniform()))
