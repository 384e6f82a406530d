"""An actor-critic with memory, as a function of whole stretches of play."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from slt_rl._numbers import check_count
from slt_rl.rl.distributions import Categorical
from slt_rl.rl.networks import init_dense

PyTree = Any


@dataclasses.dataclass(frozen=True)
class RecurrentActorCritic:
    r"""Dense encoder, gated recurrent unit (GRU), one hidden layer for each of two heads.

        x_t = f(W o_t + b)                                  encoder
        h   = 0 where an episode begins, else h_{t-1}
        r, z = sigmoid(U_r x_t + V_r h + b_r), sigmoid(U_z x_t + V_z h + b_z)
        n   = tanh(U_n x_t + b_n + r * (V_n h + c))
        h_t = (1 - z) * n + z * h                           core
        logits_t, V_t = heads of h_t                        actor, critic

    Without a core, `width` 0, the heads see `x_t`: the feed-forward control. The parameters are a
    nested dict, by part: `encoder`, `core`, `actor`, `critic`.

    Args:
        num_inputs: Length of the flattened observation.
        num_actions: Number of actions.
        width: Units of the recurrent core; 0 for none.
        encoder: Units of the encoder.
        head: Units of the hidden layer of each head.
        activation: Elementwise function `f` of encoder and heads.

    Raises:
        ValueError: If `width` is negative or another size is not positive.

    References:
        Cho et al., "Learning phrase representations using RNN encoder-decoder", arXiv:1406.1078; as
        in cuDNN, the reset gate acts after the recurrent product.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> network = RecurrentActorCritic(5, 3, width=4, encoder=8, head=8)
        >>> params = network.init(jax.random.key(0))
        >>> hidden = network.initial_hidden(params, 2)
        >>> observation, reset = jnp.ones((7, 2, 5)), jnp.zeros((7, 2), bool)
        >>> hidden, distribution, value = network.apply(params, hidden, observation, reset=reset)
        >>> hidden.shape, distribution.logits.shape, value.shape
        ((2, 4), (7, 2, 3), (7, 2))
    """

    num_inputs: int
    num_actions: int
    width: int = 128
    encoder: int = 128
    head: int = 128
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh

    def __post_init__(self):
        for name in ("num_inputs", "num_actions", "encoder", "head"):
            check_count(name, getattr(self, name))
        check_count("width", self.width, 0)

    def init(self, key: jax.Array) -> dict[str, PyTree]:
        """Draws parameters in the convention of `MLP`: gain sqrt(2) of hidden layers.

        The gain is 1 for each gate and for the value, 0.01 for the logits: the first policy is
        nearly uniform.
        """
        keys = jax.random.split(key, 7)
        features = self.width or self.encoder
        params: dict[str, PyTree] = {
            "encoder": init_dense(keys[0], (self.num_inputs, self.encoder), 2**0.5),
            "actor": self._init_head(keys[1:3], features, self.num_actions, 0.01),
            "critic": self._init_head(keys[3:5], features, 1, 1.0),
        }
        if self.width:
            params["core"] = {
                "input": {
                    "kernel": _init_gates(keys[5], self.encoder, self.width),
                    "bias": jnp.zeros(3 * self.width),
                },
                # In the other two gates a second bias would do nothing that the first does not.
                "hidden": {
                    "kernel": _init_gates(keys[6], self.width, self.width),
                    "bias": jnp.zeros(self.width),
                },
            }
        return params

    def _init_head(self, keys, num_inputs: int, num_outputs: int, gain: float) -> dict[str, PyTree]:
        return {
            "hidden": init_dense(keys[0], (num_inputs, self.head), 2**0.5),
            "output": init_dense(keys[1], (self.head, num_outputs), gain),
        }

    def initial_hidden(self, params: PyTree, num_envs: int) -> jax.Array:
        """Zeros `[env, width]`, of the type of the parameters."""
        return jnp.zeros((num_envs, self.width), params["encoder"]["kernel"].dtype)

    def apply(
        self, params: PyTree, hidden: jax.Array, observation: jax.Array, *, reset: jax.Array
    ) -> tuple[jax.Array, Categorical, jax.Array]:
        """Sees a stretch of play; the same function for playing, learning and measuring.

        Args:
            params: From `init`.
            hidden: `[env, width]`, the state before the first step.
            observation: `[time, env, ...]`, of any type and of `num_inputs` numbers each.
            reset: `[time, env]` bool, whether the observation is the first of its episode; the
                hidden state is zero before such a step.

        Returns:
            The hidden state after the last step, the distributions of actions and the values,
            `[time, env]` each.
        """
        features = self.features(params, hidden, observation, reset=reset)
        last = features[-1] if self.width else hidden
        distribution = Categorical(self._head(params["actor"], features))
        return last, distribution, self._head(params["critic"], features)[..., 0]

    def features(
        self, params: PyTree, hidden: jax.Array, observation: jax.Array, *, reset: jax.Array
    ) -> jax.Array:
        """What the heads see: the hidden state after each step, `[time, env, width]`.

        The arguments are those of `apply`. Without a core they see the encoder,
        `[time, env, encoder]`.
        """
        kernel = params["encoder"]["kernel"]
        flat = observation.reshape(*reset.shape, -1).astype(kernel.dtype)
        encoded = self.activation(flat @ kernel + params["encoder"]["bias"])
        return _gated(params["core"], hidden, encoded, reset) if self.width else encoded

    def _head(self, params: PyTree, features: jax.Array) -> jax.Array:
        hidden, output = params["hidden"], params["output"]
        features = self.activation(features @ hidden["kernel"] + hidden["bias"])
        return features @ output["kernel"] + output["bias"]


def _init_gates(key: jax.Array, num_inputs: int, width: int) -> jax.Array:
    """Kernels `[in, 3 * width]` of the gates `r`, `z` and of the candidate `n`, side by side."""
    return jax.random.normal(key, (num_inputs, 3 * width)) / max(num_inputs, width) ** 0.5


def _gated(params: PyTree, hidden: jax.Array, inputs: jax.Array, reset: jax.Array) -> jax.Array:
    """The hidden states `[time, env, width]`; all inputs are projected at once, before the loop."""
    from_inputs = inputs @ params["input"]["kernel"] + params["input"]["bias"]

    def step(hidden, now):
        from_input, reset = now
        hidden = jnp.where(reset[:, None], 0, hidden)
        r, z, n = jnp.split(from_input, 3, axis=-1)
        v_r, v_z, v_n = jnp.split(hidden @ params["hidden"]["kernel"], 3, axis=-1)
        r, z = jax.nn.sigmoid(r + v_r), jax.nn.sigmoid(z + v_z)
        n = jnp.tanh(n + r * (v_n + params["hidden"]["bias"]))
        hidden = (1 - z) * n + z * hidden
        return hidden, hidden

    return jax.lax.scan(step, hidden, (from_inputs, reset))[1]


@dataclasses.dataclass(frozen=True)
class Forgetful:
    """A network that forgets everything before each step: what is its memory worth?

    Plays wherever `RecurrentActorCritic` does. The return of an agent minus its return when
    forgetful is the part of the return that hangs on memory.

    Args:
        network: The network with memory.
    """

    network: RecurrentActorCritic

    def initial_hidden(self, params: PyTree, num_envs: int) -> jax.Array:
        """That of the network."""
        return self.network.initial_hidden(params, num_envs)

    def apply(
        self, params: PyTree, hidden: jax.Array, observation: jax.Array, *, reset: jax.Array
    ) -> tuple[jax.Array, Categorical, jax.Array]:
        """The network's, with a reset before every step."""
        return self.network.apply(params, hidden, observation, reset=jnp.ones_like(reset))
