"""Random numbers by counter: known answers, agreement with jax.random, moments, independence of the cohort's size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model.chance import Chance, keys_of, threefry


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(key, counter, words):
    """Random123 1.14, kat_vectors, threefry2x32 of 20 rounds."""
    out = threefry(np.array(key, np.uint32), *(jnp.asarray(x, jnp.uint32) for x in counter))
    assert tuple(int(x) for x in out) == words


def test_it_is_the_cipher_of_jax_random():
    key = jax.random.key(7)
    first, second = threefry(jax.random.key_data(key), jnp.zeros(100, jnp.uint32), jnp.arange(100, dtype=jnp.uint32))
    np.testing.assert_array_equal(first ^ second, jax.random.bits(key, (100,), jnp.uint32))


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 5])
def test_keys_without_a_program_are_those_of_jax_random(seed):
    numbers = np.array([0, 3, 2**32 - 1])
    theirs = jax.vmap(lambda n: jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 41), n))(numbers)
    ours = keys_of(seed, 41, numbers)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(jax.random.key_data(ours), jax.random.key_data(theirs))


def numbers(kind: str, step=3, patients=200_000, calls=2, seed=1):
    luck = Chance(jax.random.key(seed), step, patients)
    return [np.asarray(getattr(luck, kind)()) for _ in range(calls)]


@pytest.mark.parametrize(
    ("kind", "mean", "sd", "third"), [("uniform", 0.5, 12**-0.5, 0.25), ("exponential", 1, 1, 6), ("normal", 0, 1, 0)]
)
def test_moments(kind, mean, sd, third):
    for x in numbers(kind):
        n = len(x)
        assert np.isfinite(x).all()
        assert abs(x.mean() - mean) < 4.0 * sd / np.sqrt(n)
        assert abs(x.std() - sd) < 4.0 * sd * np.sqrt(2.0 / n)
        assert abs((x**3).mean() - third) < 4.0 * (x**3).std() / np.sqrt(n)


def test_the_normal_is_normal_in_its_tails():
    x = np.concatenate(numbers("normal"))
    for limit, p in ((2.0, 0.0227501), (3.0, 0.0013499), (-2.0, 0.9772499)):
        assert abs((x > limit).mean() - p) < 4.0 * np.sqrt(p * (1.0 - p) / len(x))


def test_numbers_of_other_calls_steps_and_keys_are_independent():
    x = [*numbers("uniform", calls=4), *numbers("uniform", step=4), *numbers("uniform", seed=2)]
    off = np.abs(np.corrcoef(x) - np.eye(len(x)))
    assert off.max() < 4.5 / np.sqrt(len(x[0]))


def test_patients_keep_their_numbers_when_others_are_added():
    few, many = numbers("uniform", patients=10), numbers("uniform", patients=1000)
    for x, y in zip(few, many, strict=True):
        np.testing.assert_array_equal(x, y[:10])
