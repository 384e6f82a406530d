"""What the potentials share: argument checks, and what they take their examples from."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.data import Dataset
from slt_rl.rl.ppo import Batch
from slt_rl.rl.synthesis import Trajectories

PyTree = Any


def scale_statement(unit: float = 1.0, power: int = 1) -> str:
    """What must be said with a number from rewards: `c L` at `nbeta` is `L` at `c nbeta`.

    No check can find the scale, so a loss carries this as `scale_note`, and estimates repeat it.

    Args:
        unit: What the loss was divided by.
        power: Of the scale of rewards in the loss; 2 for squared errors of values.
    """
    kind = "raw units of reward" if unit == 1 else f"units of {unit:.4g} of reward"
    factor = "c" if power == 1 else f"c^{power}"
    return (
        f"the loss is in {'squared ' if power == 2 else ''}{kind}, and its scale is a temperature "
        f"that no check can see: rewards c times as large give this number at nbeta/{factor}; "
        "state the unit with nbeta and compare at equal units"
    )


def check_callable(name: str, value: Any) -> None:
    """Raises ValueError unless a value can be called."""
    if not callable(value):
        raise ValueError(f"{name}: got {value!r}, expected a callable")


def check_discount(discount: float) -> None:
    """Raises ValueError unless a discount is in [0, 1]."""
    if not 0 <= discount <= 1:
        raise ValueError(f"discount: got {discount}, expected a number in [0, 1]")


def check_finite(name: str, values: Any) -> None:
    """Raises ValueError if a value is not finite; of traced ones nothing is known yet."""
    if isinstance(values, jax.core.Tracer):
        return
    bad = int(np.sum(~np.isfinite(np.asarray(values, np.float64))))
    if bad:
        raise ValueError(f"{name}: got {bad} values that are not finite, expected finite numbers")


def check_actions(name: str, actions: Any) -> None:
    """Raises ValueError if an index is negative, which would count from the end."""
    if isinstance(actions, jax.core.Tracer) or not jnp.issubdtype(actions.dtype, jnp.integer):
        return
    if int(jnp.min(actions)) < 0:
        raise ValueError(f"{name}: got index {int(jnp.min(actions))}, expected at least 0")


def check_log_prob(name: str, log_prob: Any) -> None:
    """Raises ValueError unless behavior log probabilities are there and finite."""
    if log_prob is None:
        raise ValueError(f"{name}: no behavior log probabilities, which the weights need")
    check_finite(f"{name}.log_prob", log_prob)


def leading_axis(name: str, tree: PyTree) -> int:
    """The common length of the leading axis of a pytree; ValueError if there is none."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
    lengths = {shape[0] if shape else 0 for shape in shapes}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"{name}: got shapes {shapes}, expected one leading axis of length n >= 1")
    return lengths.pop()


def states_of(observations: PyTree) -> tuple[PyTree, Any]:
    """Observations `[n]` and their weights, of a weighted data set or of a plain pytree."""
    if isinstance(observations, Dataset):
        return observations.examples, observations.weights
    return observations, None


def trajectories_of(data: Any) -> Trajectories:
    """The examples of a data set of trajectories; ValueError if it holds something else."""
    if not isinstance(data, Dataset) or not isinstance(data.examples, Trajectories):
        kind = type(getattr(data, "examples", data)).__name__
        raise ValueError(f"trajectories: got {kind}, expected the data of by_trajectory")
    return data.examples


def policy_data(batch: Batch) -> Dataset:
    """The part of a batch that concerns the policy; ValueError for what no loss can be of."""
    check_finite("batch.advantage", batch.advantage)
    check_actions("batch.action", batch.action)
    return Dataset(batch._replace(target=None))
