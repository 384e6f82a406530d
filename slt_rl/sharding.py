"""Arrays laid over several devices; what is computed from them follows."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

PyTree = Any


def over_devices(tree: PyTree, *, devices: Sequence[Any] | None = None) -> PyTree:
    """Lays the leading axis of every array over devices, in equal parts.

    Checkpoints that lie so are sampled by `llc_curve` where they lie, with the draws that one
    device gives: the key of a step depends on checkpoint, chain and step alone. Between the devices
    nothing is sent but the draws' scalars at the end of a block.

    Args:
        tree: Pytree of arrays with a common leading axis, such as `[checkpoint, ...]`.
        devices: Devices of this process; all of them if None.

    Returns:
        The arrays, each `jax.Array` with a `NamedSharding` over a mesh of one axis.

    Raises:
        ValueError: If the number of devices does not divide a leading axis.

    Example:
        >>> import jax, numpy as np
        >>> centers = over_devices({"w": np.zeros((4, 3))}, devices=jax.local_devices()[:1])
        >>> centers["w"].shape
        (4, 3)
    """
    devices = jax.local_devices() if devices is None else list(devices)
    for leaf in jax.tree.leaves(tree):
        if np.ndim(leaf) == 0 or np.shape(leaf)[0] % len(devices):
            raise ValueError(
                f"tree: got an array of shape {np.shape(leaf)}, expected a leading axis that "
                f"{len(devices)} devices divide"
            )
    mesh = Mesh(np.array(devices), ("device",))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec("device")))
