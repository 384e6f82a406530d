"""States on which a checkpoint is compared with itself: fixed ones, or the checkpoint's own."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl._checks import check_count
from slt_rl.agents.run import Run
from slt_rl.array_files import fingerprint, load_arrays, save_arrays
from slt_rl.rl import policy_states

PyTree = Any
# Long enough that most episodes of early training end, so that late steps are among the states.
NUM_ENVS, NUM_STEPS = 64, 256


class States(NamedTuple):
    """States, and where they come from.

    Attributes:
        observations: `[n, input]`, the same for all checkpoints, or `[checkpoint, n, input]`.
        origin: Where they come from, in words.
    """

    observations: np.ndarray
    origin: str

    @property
    def is_shared(self) -> bool:
        """Whether all checkpoints have the same states."""
        return self.observations.ndim == 2


def reference_states(
    key: jax.Array, run: Run, *, num_states: int = 1024, num_sources: int = 4
) -> States:
    """States visited by several checkpoints of all seeds: one law of states for a whole curve.

    Of each of `num_sources` checkpoints, evenly spaced from the first to the last, and of each
    seed, the policy is played from fresh starts, 64 environments for 256 steps; equally many of the
    visited states are drawn without replacement.

    Args:
        key: Random key, consumed.
        run: The run.
        num_states: States in all; the last source gives what is left over.
        num_sources: Checkpoints of each seed.

    Raises:
        ValueError: If the run has fewer checkpoints, or there is less than a state for each source.
    """
    if not 1 <= num_sources <= len(run.steps):
        raise ValueError(
            f"num_sources: got {num_sources}, expected 1 ... {len(run.steps)}, the checkpoints of "
            f"{run.folder}"
        )
    num_parts = num_sources * len(run.seeds)
    if check_count("num_states", num_states) < num_parts:
        raise ValueError(
            f"num_states: got {num_states}, expected at least {num_parts}, one for each source"
        )
    chosen = np.linspace(0, len(run.steps) - 1, num_sources).round().astype(int)
    policy, env = run.policy(), run.env()
    edges = np.linspace(0, num_states, num_parts + 1).round().astype(int)
    parts: list[np.ndarray] = []
    for seed in run.seeds:
        params = run.checkpoints(seed).params["policy"]
        for index in chosen:
            number = len(parts)
            one = jax.tree.map(lambda x, i=index: jnp.asarray(x[i]), params)
            count = int(edges[number + 1] - edges[number])
            parts.append(_visited(jax.random.fold_in(key, number), policy, one, env, count))
    steps = ", ".join(str(step) for step in run.steps[chosen])
    origin = f"visited by the policies at steps {steps} of seeds {_listed(run.seeds)}"
    return States(np.concatenate(parts), origin)


def own_states(
    key: jax.Array, run: Run, seed: int, *, indices: np.ndarray, num_states: int = 1024
) -> States:
    """States visited by each checkpoint itself: on-policy states.

    Args:
        key: Random key, consumed.
        run: The run.
        seed: Seed of the run.
        indices: Checkpoints, as indices into `run.steps`.
        num_states: States of each.
    """
    check_count("num_states", num_states)
    policy, env = run.policy(), run.env()
    params = run.checkpoints(seed).params["policy"]
    found = [
        _visited(
            jax.random.fold_in(key, i),
            policy,
            jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), params),
            env,
            num_states,
        )
        for i in map(int, indices)
    ]
    return States(np.stack(found), "visited by the policy of each checkpoint itself")


def stored_reference_states(
    path: Path, run: Run, *, seed: int, num_states: int = 1024, num_sources: int = 4
) -> States:
    """The reference states in a file, made and stored on the first call.

    Made once, so that a curve that is continued after more training keeps its states.

    Raises:
        ValueError: If the file is damaged, or holds states of other settings.
    """
    settings = {"seed": seed, "num_states": num_states, "num_sources": num_sources}
    digest = fingerprint(settings)
    if not path.exists():
        made = reference_states(
            jax.random.key(seed), run, num_states=num_states, num_sources=num_sources
        )
        save_arrays(
            path, {"observations": made.observations}, {"settings": digest, "origin": made.origin}
        )
    arrays, metadata = load_arrays(path, expected={"settings": digest})
    return States(arrays["observations"], metadata["origin"])


def _visited(key: jax.Array, policy, params: PyTree, env, num_states: int) -> np.ndarray:
    """States drawn from fresh play of one policy, `[num_states, input]`."""
    key_play, key_choice = jax.random.split(key)
    played = policy_states(
        key_play, policy, params, env=env, num_envs=NUM_ENVS, num_steps=NUM_STEPS
    )
    states = np.asarray(played.data.examples)
    if num_states > len(states):
        raise ValueError(f"num_states: got {num_states}, expected at most {len(states)}")
    chosen = jax.random.choice(key_choice, len(states), (num_states,), replace=False)
    return states[np.asarray(chosen)].reshape(num_states, -1)


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
