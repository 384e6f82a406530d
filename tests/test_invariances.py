"""What must not change an estimate: units of the loss, copies of the data, layout of the tree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl

KEY = jax.random.key(17)
RNG = np.random.default_rng(2)
INPUTS = RNG.standard_normal((300, 4))
DATA = {"x": INPUTS, "y": INPUTS @ np.ones(4) + RNG.standard_normal(300)}
CENTER = np.linalg.lstsq(INPUTS, DATA["y"], rcond=None)[0]
OPTIONS = {"nbeta": 60.0, "localization": 2.0, "num_draws": 1000}


def squared_error(w, examples):
    return 0.5 * (examples["x"] @ w - examples["y"]) ** 2


def estimate(loss_fn=squared_error, params=CENTER, data=DATA, **changes):
    params = jax.tree.map(jnp.asarray, params)
    return slt_rl.estimate_llc(KEY, loss_fn, params, data, **(OPTIONS | changes))


def same_law(a, b):
    return abs(a.mean - b.mean) < 4 * np.hypot(a.sem, b.sem)


@pytest.mark.parametrize("batch_size", [None, 20])
def test_twice_the_loss_at_half_the_temperature_is_the_same_chain(batch_size):
    """`U` is the same function, and so are the draws, up to the order in which factors multiply."""
    a = estimate(batch_size=batch_size)
    b = estimate(lambda w, e: 2 * squared_error(w, e), nbeta=30.0, batch_size=batch_size)
    assert a.mean == pytest.approx(b.mean, rel=1e-9)
    assert a.sem == pytest.approx(b.sem, rel=1e-9)
    assert (a.verdict, a.regime) == (b.verdict, b.regime)


def copies(times: int):
    return {name: np.concatenate([values] * times) for name, values in DATA.items()}


def test_duplicated_examples_at_the_same_temperature_are_the_same_potential():
    """Full data: the mean over two copies differs by rounding alone."""
    assert estimate(data=copies(2)).mean == pytest.approx(estimate().mean, rel=1e-6)


def test_duplicated_examples_give_minibatches_of_the_same_law():
    """Draws with replacement from copies are draws with replacement from the originals."""
    a, b = (estimate(data=copies(k), batch_size=20, num_draws=8000) for k in (1, 3))
    assert same_law(a, b)
    scaled = OPTIONS["nbeta"] * np.linalg.eigvalsh(INPUTS.T @ INPUTS / 300)
    exact = 0.5 * np.sum(scaled / (scaled + OPTIONS["localization"]))
    assert abs(b.mean - exact) < 4 * b.sem


def test_renamed_leaves_in_the_same_order_are_the_same_chain():
    old, new = ({names[0]: CENTER[:2], names[1]: CENTER[2:]} for names in ("ab", "pq"))

    def loss_fn(params, examples):
        return squared_error(jnp.concatenate(jax.tree.leaves(params)), examples)

    assert estimate(loss_fn, old).mean == estimate(loss_fn, new).mean


def test_split_and_reordered_leaves_keep_the_law():
    """Noise is drawn leaf by leaf: another layout is another chain with the same law."""
    names, parts = ("z", "a", "m"), np.split(CENTER, [1, 3])

    def loss_fn(params, examples):
        return squared_error(jnp.concatenate([params[name] for name in names]), examples)

    whole = estimate(num_draws=8000)
    other = estimate(loss_fn, dict(zip(names, parts, strict=True)), num_draws=8000)
    assert other.mean != whole.mean
    assert same_law(other, whole)
