"""Plants per episode of PPO on FirstOnly: peak, decay and end, for several costs and seeds.

    python -m benchmarks.first_only [--runs 4] [--iterations 300] [--out benchmarks/results]

Twice: actor and critic as networks of their own, as everywhere in this library, and as two heads of
one network. Writes `first_only.md` and `first_only.json` with the command, commit, versions and
machine class.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from tqdm import tqdm

from benchmarks import pages
from benchmarks.analysis import each
from slt_rl.agents.figures import COLORS
from slt_rl.development import EventEnv, event_curves, landmarks, overshoot_p_value, seed_mean
from slt_rl.report.style import MUTED, new_figure, styled
from slt_rl.rl import (
    MLP,
    PPO,
    Categorical,
    GymnaxEnv,
    RecurrentPPO,
    init_runs,
    run_keys,
    train,
)
from toy_models.first_only import (
    PLANT,
    FirstOnlyEnv,
    FirstOnlyParams,
    plant_events,
    planting_params,
    planting_ppo,
)

WORLD = FirstOnlyEnv()
SETTINGS = ((0.0, 1.0), (0.02, 1.0), (0.05, 1.0), (0.1, 1.0), (0.2, 1.0), (0.05, 0.5))
ABSTRACT = "Mean over seeds with its 95 % Student interval, and below it each seed."
NOTE = (
    "Update 0 plays the initial policy, `end` is the mean of the last 20 updates, `half_decay` the "
    "first update after the peak with fewer plants than half way from the peak to one; – where "
    "there is none. `overshoot_p` tests each seed's peak against curves that only rise."
)
COLUMNS = ("start", "peak", "peak_update", "half_decay", "end", "end_return")
PARTS = {
    "separate": "Actor and critic apart",
    "shared": "Actor and critic as two heads of one network",
}
# Three seeds each of another implementation, one network with two heads; by cost, salience 1.
EARLIER = {
    0.0: ("12.4, 12.5, 18.4", "100, 77, 85", "141, 122, –", "5.3, 9.0, 14.4"),
    0.02: ("4.0, 4.1, 4.7", "25, 33, 31", "32, 35, 34", "1.0"),
    0.05: ("3.2, 3.5, 3.2", "31, 27, 26", "34, 35, 32", "1.0"),
}
EARLIER_NOTE = (
    "Each seed. The other implementation has two heads on one network too, orthogonal initial "
    "weights, and normalizes advantages in each minibatch; all other numbers are the same."
)


@dataclasses.dataclass(frozen=True)
class SharedNetwork:
    """Two heads on two hidden layers of 64 tanh units, for `RecurrentPPO`; it has no memory."""

    trunk = MLP(2 + WORLD.num_noise, 64, hidden=(64,), output_scale=2**0.5)
    actor = MLP(64, WORLD.num_actions, hidden=(), output_scale=0.01)
    critic = MLP(64, 1, hidden=())

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws parameters of a policy that seldom plants."""
        keys = jax.random.split(key, 3)
        params = {
            name: getattr(self, name).init(k)
            for name, k in zip(("trunk", "actor", "critic"), keys, strict=True)
        }
        bias = params["actor"][0]["bias"]
        params["actor"][0]["bias"] = bias.at[PLANT].set(-4.0)
        return params

    def initial_hidden(self, params: Any, num_envs: int) -> jax.Array:
        """Nothing to remember."""
        del params
        return jnp.zeros((num_envs, 0))

    def apply(self, params: Any, hidden: jax.Array, observation: jax.Array, *, reset: jax.Array):
        """Distributions and values `[time, env]`."""
        del reset

        def one(x):
            seen = jnp.tanh(self.trunk(params["trunk"], x))
            logits = self.actor(params["actor"], seen)
            return Categorical(logits), self.critic(params["critic"], seen)[0]

        return hidden, *jax.vmap(jax.vmap(one))(observation)


SHARED = SharedNetwork()


def main() -> int:
    """Trains all settings and writes the results."""
    parser = pages.parser(__doc__)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    agents = {
        "separate": (planting_ppo(WORLD), start_params),
        "shared": (shared_ppo(), SHARED.init),
    }
    cases = [(name, *setting) for name in PARTS for setting in SETTINGS]
    rows = []
    for name, cost, salience in tqdm(cases, disable=None):
        found = measure(agents[name], cost, salience, options=options)
        rows.append({"network": name, **found})
    pages.write_page(make_page(rows), rows, vars(options), folder=options.out)
    return 0


def shared_ppo() -> RecurrentPPO:
    """The numbers of `planting_ppo`, for `SharedNetwork`; minibatches are of whole episodes."""
    given = planting_ppo(WORLD)
    names = {field.name for field in dataclasses.fields(RecurrentPPO)}
    numbers = {f.name: getattr(given, f.name) for f in dataclasses.fields(PPO) if f.name in names}
    return RecurrentPPO(network=SHARED, **numbers)


def measure(
    agent: tuple[PPO | RecurrentPPO, Callable], cost: float, salience: float, *, options: Any
) -> dict[str, Any]:
    """Trains the runs of one setting; every number is a list with one entry for each run."""
    ppo, init_fn = agent
    inner = GymnaxEnv(WORLD, FirstOnlyParams(cost=cost, salience=salience))
    env = EventEnv(inner, plant_events, ("plants", "rewarded"))
    keys = run_keys(jax.random.key(options.seed), options.runs)
    start, states = time.perf_counter(), init_runs(keys, ppo, env, init_fn=init_fn)
    totals, returns = [], []
    schedule = range(options.iterations + 1)
    for now, stats in train(keys, ppo, env, states=states, checkpoints=schedule):
        totals.append(jax.device_get(now.envs.state.totals))
        returns.append(np.asarray(stats.episodes.total_return) / ppo.num_envs)
    curves = event_curves(jax.tree.map(lambda *x: np.stack(x), *totals))
    plants, sem = curves.per_episode[:, :, 0], curves.sem[:, :, 0]
    updates = np.arange(options.iterations)
    found = [landmarks(updates, row, final=1.0) for row in plants]
    return {
        "cost": cost,
        "salience": salience,
        "seconds": time.perf_counter() - start,
        "start": plants[:, 0].tolist(),
        "peak": [f.peak for f in found],
        "peak_update": [f.peak_step for f in found],
        "half_decay": [f.half_decay_step for f in found],
        "end": [f.end for f in found],
        "end_return": np.concatenate(returns[-20:], axis=1).mean(axis=1).tolist(),
        "overshoot_p": [overshoot_p_value(0, y, e) for y, e in zip(plants, sem, strict=True)],
        "plants": plants.round(4).tolist(),
    }


def start_params(key: jax.Array) -> dict[str, Any]:
    """Initial parameters of one run."""
    return planting_params(key, WORLD)


def make_page(rows: Sequence[dict[str, Any]]) -> pages.Page:
    """A table for each kind of network, and one beside another implementation."""
    tables = [_settings([r for r in rows if r["network"] == name], PARTS[name]) for name in PARTS]
    tables.append(_beside(rows))
    title, figures = "Plants per episode of PPO on FirstOnly", {"curves": curves_figure(rows)}
    return pages.Page("first_only", title, ABSTRACT, (), tables, figures)


def curves_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """Plants per episode over training, a panel for each setting, a color for each network."""
    with styled():
        figure = new_figure((9.5, 5.0))
        axes = figure.subplots(2, 3, sharex=True)
        for axis, (cost, salience) in zip(axes.flat, SETTINGS, strict=True):
            axis.set_title(f"cost {cost:g}, salience {salience:g}", fontsize=9.5)
            axis.axhline(1.0, color=MUTED, lw=0.8, ls=":", label="one plant")
            for row in rows:
                if (row["cost"], row["salience"]) == (cost, salience):
                    _curves(axis, row)
            axis.set_ylim(bottom=0.0)
        for axis in axes[:, 0]:
            axis.set_ylabel("plants per episode")
        for axis in axes[-1]:
            axis.set_xlabel("update")
        handles = axes[0, 0].get_legend_handles_labels()[0]
        handles.append(Line2D([], [], color=MUTED, lw=0.6, label="each seed"))
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _curves(axis: Axes, row: dict[str, Any]) -> None:
    """One network: a thin line for each seed, a thick one for their mean."""
    color = dict(zip(PARTS, COLORS, strict=False))[row["network"]]
    plants = np.array(row["plants"])
    axis.plot(plants.T, color=color, lw=0.6, alpha=0.6)
    label = f"{PARTS[row['network']].lower()}, mean over seeds"
    axis.plot(plants.mean(axis=0), color=color, lw=1.5, label=label)


def _settings(rows: Sequence[dict[str, Any]], title: str) -> pages.Table:
    """Two lines for each setting: the means over seeds, and each seed."""
    columns = ("cost", "salience", *COLUMNS, "overshoot_p")
    cells = []
    for row in rows:
        # A mean of p-values means nothing.
        cells.append([_mean(row[c]) if c != "overshoot_p" else "" for c in columns])
        cells.append([_each(row[c]) for c in columns])
    return pages.Table(title, columns, cells, NOTE)


def _beside(rows: Sequence[dict[str, Any]]) -> pages.Table:
    """Each seed of both networks beside another implementation."""
    names = ("peak", "peak_update", "half_decay", "end")
    cells = []
    for cost, earlier in EARLIER.items():
        for row in rows:
            if row["cost"] == cost and row["salience"] == 1.0:
                cells.append([f"{cost:g}", row["network"], *(each(row[name]) for name in names)])
        cells.append([f"{cost:g}", "another implementation", *earlier])
    return pages.Table("Beside another implementation", ("cost", "network", *names), cells,
                       EARLIER_NOTE)  # fmt: skip


def _mean(values: Any) -> str:
    if isinstance(values, float):
        return f"**{values:g}**"
    if not np.all(np.isfinite(values)):
        return "–"
    found = seed_mean(np.asarray(values))
    return f"**{found.mean:.2f}** [{found.low:.2f}, {found.high:.2f}]"


def _each(values: Any) -> str:
    return "" if isinstance(values, float) else each(values)


if __name__ == "__main__":
    sys.exit(main())
