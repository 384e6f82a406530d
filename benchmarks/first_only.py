"""Plants per episode of PPO on FirstOnly: peak, decay and end, for several costs and seeds.

    python -m benchmarks.first_only [--runs 4] [--iterations 300] [--out benchmarks/results]

Writes `first_only.md` and `first_only.json` with the command, commit, versions and machine class.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from benchmarks import pages
from benchmarks.analysis import each
from slt_rl.development import EventEnv, event_curves, landmarks, overshoot_p_value, seed_mean
from slt_rl.rl import PPO, GymnaxEnv, init_runs, run_keys, train
from toy_models.first_only import (
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


def main() -> int:
    """Trains all settings and writes the results."""
    parser = pages.parser(__doc__)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # One object, so that all settings are one program.
    ppo = planting_ppo(WORLD)
    rows = [measure(ppo, *setting, options=options) for setting in tqdm(SETTINGS, disable=None)]
    pages.write_page(make_page(rows), rows, vars(options), folder=options.out)
    return 0


def measure(ppo: PPO, cost: float, salience: float, *, options: Any) -> dict[str, Any]:
    """Trains the runs of one setting; every number is a list with one entry for each run."""
    inner = GymnaxEnv(WORLD, FirstOnlyParams(cost=cost, salience=salience))
    env = EventEnv(inner, plant_events, ("plants", "rewarded"))
    keys = run_keys(jax.random.key(options.seed), options.runs)
    start, states = time.perf_counter(), init_runs(keys, ppo, env, init_fn=start_params)
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
    """Two lines for each setting: the means over seeds, and each seed."""
    columns = ("cost", "salience", *COLUMNS, "overshoot_p")
    cells = []
    for row in rows:
        # A mean of p-values means nothing.
        cells.append([_mean(row[c]) if c != "overshoot_p" else "" for c in columns])
        cells.append([_each(row[c]) for c in columns])
    table = pages.Table("Settings", columns, cells, NOTE)
    return pages.Page("first_only", "Plants per episode of PPO on FirstOnly", ABSTRACT, (), [table])


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
