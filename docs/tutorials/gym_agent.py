"""Your own gymnax agent: from its checkpoints to a curve of the LLC, with intervals and verdicts.

    python docs/tutorials/gym_agent.py [--quick] [--out results/gym_agent]

The first half stands for your own code: an agent, here a small network trained on CartPole by PPO,
that leaves checkpoints in a folder. The second half, `measure` and `draw`, is all that the LLC
needs: the folder, the policy as a function of one observation, and the environment.

What is measured is the KL of the policy to that of the checkpoint itself, over states that the last
policy visits, the same for every checkpoint. It has its minimum at the checkpoint wherever training
is, so that it may be asked of an agent in the middle of learning; the regret may not. Of `n` states
of an episode none is independent of the others: for this loss, which has no noise of its own, that
does not matter.

What to look for. The curve is that of the stated temperature and localization: where `regime` says
"localization-dominated", differences along training mean something and single numbers do not. Quote
a "doubtful" estimate with its flag and a "refused" one not at all.
"""

import argparse
from pathlib import Path

import gymnax
import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

import slt_rl
from slt_rl import rl
from slt_rl.checkpoints import load_series, save_checkpoint

ENV = rl.GymnaxEnv(*gymnax.make("CartPole-v1"))


def policy(params, observation):
    """The agent: one hidden layer, the logits of two actions."""
    hidden = jnp.tanh(observation @ params["in"] + params["bias"])
    return rl.Categorical(hidden @ params["out"])


def value(params, observation):
    """Its critic."""
    return jnp.tanh(observation @ params["in"] + params["bias"]) @ params["out"]


def start(key):
    """Initial parameters of both."""
    keys = jax.random.split(key, 3)
    layer, bias = jax.random.normal(keys[0], (4, 16)), jnp.zeros(16)
    actor = {"in": layer, "bias": bias, "out": 0.01 * jax.random.normal(keys[1], (16, 2))}
    return {"policy": actor, "value": {"in": layer, "bias": bias, "out": jnp.zeros(16)}}


def train(key, folder, iterations):
    """Trains by PPO; saves a checkpoint at each of the iterations and prints the return."""
    ppo = rl.PPO(
        policy=policy, value_fn=value, optimizer=rl.clipped_adam(0.01), num_envs=16, num_steps=64
    )
    keys = rl.run_keys(key, 1)
    first = rl.init_runs(keys, ppo, ENV, init_fn=start)
    for states, stats in rl.train(keys, ppo, ENV, states=first, checkpoints=iterations):
        step = int(states.iteration[0])
        save_checkpoint(folder, step, jax.tree.map(lambda leaf: leaf[0], states.params["policy"]))
        if step:
            # Over all iterations since the last checkpoint: in a single one no episode may end.
            episodes = stats.episodes
            mean_return = episodes.total_return[0].sum() / episodes.num_episodes[0].sum()
            print(f"iteration {step:3d}: mean return {mean_return:.0f}")


def measure(key, folder, **options):
    """The LLC at every checkpoint of a folder; `options` go to `llc_curve`."""
    key_states, key_llc = jax.random.split(key)
    series = load_series(folder)
    last = jax.tree.map(lambda leaf: jnp.asarray(leaf[-1]), series.params)
    states = rl.policy_states(key_states, policy, last, env=ENV, num_envs=32, num_steps=64)
    print(states)

    def make_target(params, observations):
        return rl.policy_kl(policy, params, observations)

    return slt_rl.llc_curve(
        key_llc,
        make_target,
        jax.tree.map(jnp.asarray, series.params),
        data=states.data.examples,
        steps=series.steps,
        localization=1.0,
        **options,
    )


def draw(curve, path):
    """Prints the curve and draws it: filled points are trusted, open ones are not."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axis = figure.subplots()
    for step, estimate in zip(curve.steps, curve.estimates, strict=True):
        low, high = estimate.interval()
        print(f"{step:5d} {estimate.mean:6.2f} [{low:.2f}, {high:.2f}] {estimate.verdict}", end=" ")
        print(estimate.regime, *estimate.flags, sep="; ")
        fill = "C0" if estimate.verdict == "trusted" else "white"
        axis.plot([step, step], [low, high], color="C0")
        axis.plot(step, estimate.mean, "o", color="C0", markerfacecolor=fill)
    axis.set(xlabel="PPO iteration", ylabel="LLC of the KL to the own policy")
    figure.savefig(path)


def main(folder, *, quick=False):
    """Trains, measures and draws; returns the curve."""
    key_train, key_llc = jax.random.split(jax.random.key(0))
    train(key_train, folder, (0, 4, 20) if quick else (0, 2, 4, 8, 16, 32, 64))
    curve = measure(key_llc, folder, tolerance=0.2 if quick else 0.05)
    draw(curve, Path(folder) / "llc.png")
    return curve


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The LLC of a gymnax agent along its training.")
    parser.add_argument("--quick", action="store_true", help="fewer checkpoints, shorter chains")
    parser.add_argument("--out", type=Path, default=Path("results/gym_agent"))
    options = parser.parse_args()
    main(options.out, quick=options.quick)
