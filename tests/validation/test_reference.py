"""The reference sampler against closed forms, and its reweighting against another posterior."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl import Dataset
from slt_rl.validation.reference import sample_reference, value_on_data

NBETA, LOCALIZATION = 200.0, 10.0


def quadratic(params, center, law):
    return 0.5 * jnp.sum(law * (params["w"] - center["w"]) ** 2)


def exact(stiffness):
    x = NBETA * np.asarray(stiffness)
    return 0.5 * np.sum(x / (x + LOCALIZATION))


@pytest.fixture(scope="module")
def references():
    laws = jnp.array([[1.0, 0.1, 0.0], [2.0, 0.5, 0.02]])
    centers = {"w": jnp.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])}
    return laws, sample_reference(
        jax.random.key(0),
        quadratic,
        centers,
        laws=laws,
        nbeta=NBETA,
        localization=LOCALIZATION,
        sizes=(64, 1000, 40),
    )


def test_quadratic_potentials(references):
    for law, found in zip(*references, strict=True):
        assert abs(found.mean - exact(law)) < 4 * found.sem
        assert found.sem < 0.01
        assert found.acceptance > 0.9


@dataclasses.dataclass(frozen=True)
class ScaledLoss:
    """Each example scales the stiffness of every direction."""

    def __call__(self, params, examples):
        return 0.5 * examples["factor"] @ (params["w"] ** 2)


def test_reweighting_finds_the_value_on_the_data(references):
    """The draws are of mean stiffness; the data happen to be stiffer in one direction."""
    laws, found = references
    center = {"w": jnp.array([0.0, 1.0, 2.0])}
    moved = found[0]._replace(
        positions=jax.tree.map(lambda x, c: x - c, found[0].positions, center)
    )
    factor = jnp.tile(laws[0], (10, 1)).at[:, 0].mul(jnp.linspace(1.0, 1.6, 10))
    data = Dataset({"factor": factor})
    mean, sem, share = value_on_data(
        moved, ScaledLoss(), data, center={"w": jnp.zeros(3)}, nbeta=NBETA
    )
    expected = exact(np.asarray(factor).mean(axis=0))
    assert abs(mean - expected) < 4 * sem
    assert sem < 0.04
    assert 0.5 < share < 1
