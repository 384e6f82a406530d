"""Losses with their minimum at the checkpoint, of agents with and without memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.agents.targets import FrozenPart, FrozenSequences
from slt_rl.rl import Categorical

WINDOWS, TIME = 5, 6


@dataclasses.dataclass(frozen=True)
class Counter:
    """An agent that remembers the sum of its inputs since the start of the episode."""

    def initial_hidden(self, params, num_envs):
        return jnp.zeros(num_envs)

    def apply(self, params, hidden, observation, *, reset):
        def step(hidden, now):
            hidden = jnp.where(now[1], 0.0, hidden) * params["core"]["keep"] + now[0][:, 0]
            return hidden, hidden

        hidden, seen = jax.lax.scan(step, hidden, (observation, reset))
        logits = seen[..., None] * params["actor"]["kernel"]
        return hidden, Categorical(logits), seen * params["critic"]["scale"]


PARAMS = {
    "core": {"keep": jnp.array(0.9)},
    "actor": {"kernel": jnp.array([0.5, -0.2, 0.1])},
    "critic": {"scale": jnp.array(2.0)},
}


def states():
    rng = np.random.default_rng(0)
    start = np.zeros((WINDOWS, TIME), bool)
    start[2, 3] = True
    return {"observation": rng.normal(size=(WINDOWS, TIME, 1)), "start": start}


@pytest.mark.parametrize("of_values", [False, True])
def test_a_window_is_a_mean_over_its_steps_and_memory_starts_empty(of_values):
    loss_fn, data = FrozenSequences(Counter(), of_values)(PARAMS, states())
    assert len(data) == WINDOWS
    np.testing.assert_array_equal(loss_fn(PARAMS, data.examples), 0.0)
    other = jax.tree.map(lambda x: 1.3 * x, PARAMS)
    found = loss_fn(other, data.examples)
    for window in range(WINDOWS):
        own, expected = states(), 0.0
        memory, moved = 0.0, 0.0
        for t in range(TIME):
            x = own["observation"][window, t, 0]
            if own["start"][window, t]:
                memory = moved = 0.0
            memory, moved = 0.9 * memory + x, 1.17 * moved + x
            if of_values:
                expected += (2.6 * moved - 2.0 * memory) ** 2 / 2
            else:
                first = Categorical(memory * PARAMS["actor"]["kernel"])
                expected += first.kl(Categorical(moved * 1.3 * PARAMS["actor"]["kernel"]))
        np.testing.assert_allclose(found[window], expected / TIME, rtol=1e-9)


def test_gradients_vanish_at_the_checkpoint():
    loss_fn, data = FrozenSequences(Counter())(PARAMS, states())
    gradient = jax.grad(lambda w: loss_fn(w, data.examples).mean())(PARAMS)
    assert all(np.abs(leaf).max() < 1e-12 for leaf in jax.tree.leaves(gradient))


def test_a_part_is_free_and_the_rest_frozen():
    target = FrozenPart(FrozenSequences(Counter()), "core")
    free = target.free(PARAMS)
    assert list(free) == ["['core']['keep']"]
    loss_fn, data = target(free, {"center": PARAMS, "states": states()})
    whole_fn, whole = FrozenSequences(Counter())(PARAMS, states())
    moved = {**PARAMS, "core": {"keep": jnp.array(0.4)}}
    np.testing.assert_allclose(
        loss_fn({"['core']['keep']": jnp.array(0.4)}, data.examples),
        whole_fn(moved, whole.examples),
    )


@pytest.mark.parametrize("part", ["cor", "core/keep/x", "actor:7", "actor:x", "actor:-1"])
def test_parts_that_are_none_are_refused(part):
    with pytest.raises(ValueError, match=f"part: got '{part}', expected the beginning of one of"):
        FrozenPart(FrozenSequences(Counter()), part).free(PARAMS)
