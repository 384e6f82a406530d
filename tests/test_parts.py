"""Chains in parts on threads of their own: the same chains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from slt_rl import chains, compilation, estimation, llc, sampling
from slt_rl import parts as parts_module
from slt_rl.compilation import compiling
from slt_rl.parts import cut, together
from slt_rl.samplers import SGLD, KineticLangevin

KEY, SHAPE = jax.random.key(3), (2, 4)


def quartic(params):
    return jnp.sum((params - 1.0) ** 4)


def steps_of(sampler):
    """The sampler, with another step for every chain."""
    steps = sampler.step_size * np.linspace(0.5, 1.5, 8).reshape(SHAPE)
    return jax.tree.map(lambda x: steps * x / sampler.step_size, sampler)


@pytest.mark.parametrize("sampler", [SGLD(1e-3), KineticLangevin(0.05, 1.0)])
def test_draws_and_states_are_those_of_all_chains_together(sampler):
    number = jnp.float64(2.0)
    target, centers = chains.constant_target(quartic), jnp.zeros((2, 3))
    problem = chains.Problem(target, centers, None, number, number)
    anchors, keys = chains.find_anchors(KEY, problem), chains.center_keys(KEY, 2)
    sampler = steps_of(sampler)

    def start():
        return chains.start_chains(keys, problem, anchors, sampler=sampler, num_chains=4)

    def blocks_of(arguments):
        keys, sampler, state = arguments
        return chains.observe_chains(
            keys, problem, anchors, sampler=sampler, state=state, block_length=6
        )

    whole = blocks_of((keys, sampler, start()))
    arguments = (chains.chain_keys(keys, 4), sampler, start())
    parts = together([blocks_of(part) for part in cut(arguments, 2)])
    for _ in range(2):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), next(whole), next(parts)
        )


def test_an_estimate_in_parts_is_the_same_estimate(monkeypatch):
    def estimate(num_parts):
        monkeypatch.setattr(llc, "default_parts", lambda *_, **__: num_parts)
        settings = {"sampler": SGLD(1e-3), "num_draws": 140, "num_burnin": 20}
        return slt_rl.estimate_llc(KEY, quartic, jnp.ones(3), nbeta=50.0, **settings)

    cuts = []
    for module in (sampling, parts_module):
        monkeypatch.setattr(module, "cut", lambda *given: cuts.append(given) or cut(*given))
    whole, parts = estimate(1), estimate(2)
    # Of the estimate in parts: shapes, to compile ahead, then what is sampled.
    assert [isinstance(given[0][0], jax.ShapeDtypeStruct) for given in cuts] == [True, False]
    np.testing.assert_allclose(parts.draws.excess_loss, whole.draws.excess_loss, rtol=1e-9)
    assert np.unique(whole.draws.excess_loss[:, -1]).size == len(whole.per_chain)


@pytest.mark.parametrize("num_parts", [1, 2])
def test_the_block_that_is_compiled_ahead_is_the_one_that_runs(monkeypatch, num_parts):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, fun_name="", **__: compiled.append((event, fun_name))
    )
    monkeypatch.setattr(llc, "default_parts", lambda *_, **__: num_parts)
    slt_rl.estimate_llc(
        KEY,
        lambda params: jnp.sum(params**2) + params[0] ** num_parts,  # compiled by no other test
        jnp.zeros(2),
        nbeta=50.0,
        sampler=SGLD(1e-3),
        num_draws=20,
    )
    blocks = [event for event, name in compiled if "_advance_block" in name]
    assert sum("backend_compile" in event for event in blocks) == 1
    assert sum("jaxpr_trace" in event for event in blocks) == 1


def test_chains_in_parts_compile_while_the_anchor_is_found_and_only_once(monkeypatch):
    seen = []

    def seeing(word, function):
        return lambda *given, **options: seen.append(word(options)) or function(*given, **options)

    monkeypatch.setattr(llc, "default_parts", lambda *_, **__: 2)
    monkeypatch.setattr(
        estimation, "compiling", seeing(lambda options: options.get("ready", 1), compiling)
    )
    monkeypatch.setattr(
        chains,
        "find_anchors",
        seeing(lambda _: compilation.is_only_shapes(), chains.find_anchors),
    )

    def quartic_beside(params):  # sampled by no other test
        return jnp.sum(params**4) + params[0] ** 2

    for key in jax.random.split(KEY):
        slt_rl.estimate_llc(
            key, quartic_beside, jnp.ones(3), nbeta=50.0, sampler=SGLD(1e-3), num_draws=20
        )
    assert seen == [True, 0, False, 1, False]
