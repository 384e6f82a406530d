"""FirstOnly by PPO: the network with two heads, and the page."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import first_only


def test_two_heads_see_one_trunk_and_seldom_plant():
    network = first_only.SHARED
    params = network.init(jax.random.key(0))
    seen = jax.random.normal(jax.random.key(1), (3, 5, 6))
    hidden = network.initial_hidden(params, 5)
    reset = jnp.zeros((3, 5), bool)
    after, distribution, values = network.apply(params, hidden, seen, reset=reset)
    assert after.shape == hidden.shape and values.shape == (3, 5)
    probabilities = jax.nn.softmax(distribution.logits)
    expected = np.exp(-4) / (2 + np.exp(-4))
    np.testing.assert_allclose(probabilities[..., first_only.PLANT], expected, rtol=0.1)

    def value(params):
        return network.apply(params, hidden, seen, reset=reset)[2].sum()

    # The critic moves the trunk that the actor sees, and not the actor's head.
    gradient = jax.grad(value)(params)
    assert jnp.abs(gradient["trunk"][0]["kernel"]).max() > 0
    assert not jnp.any(gradient["actor"][0]["kernel"])


def test_the_page_has_each_seed_beside_the_other_implementation():
    numbers = dict.fromkeys(first_only.COLUMNS, [1.5, 2.5]) | {"plants": [[0.5, 1.0], [1.5, 2.0]]}
    rows = [
        {"network": name, "cost": cost, "salience": 1.0, "overshoot_p": [0.5, 0.25], **numbers}
        for name in first_only.PARTS
        for cost in (0.02, 0.2)
    ]
    *_, beside = first_only.make_page(rows).tables
    assert [row[1] for row in beside.rows if row[0] == "0.02"] == [
        "separate", "shared", "another implementation",
    ]  # fmt: skip
    shared = next(row for row in beside.rows if row[:2] == ["0.02", "shared"])
    assert shared[2:] == ["1.5, 2.5"] * 4
