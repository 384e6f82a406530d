"""What a variable of the reward or of the agent does to the form of a curve of plants."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from slt_rl.development import fit_form, landmarks, rise_decay, seed_effects, seed_mean
from slt_rl.report import Table

FORM_LANDMARKS = ("peak", "peak_step", "half_decay_step", "end")
# Signs of the effects on peak, its step, half-decay and end in the gradient flow of FirstOnly
# (tests/toy_models): of a higher cost, and of a higher salience of "already planted", which stands
# for sight and memory; the end is that at a fixed late update. The other two follow from the flow:
# with nothing to gain the shared logit only falls, with every plant paid it only rises.
PREDICTED = {
    "costly": ("−", "−", "−", "−"),
    "seen": ("−", "−", "−", "−"),
    "gru_8": ("−", "−", "−", "−"),
    "gru_32": ("−", "−", "−", "−"),
    "gru_128": ("−", "−", "−", "−"),
    "unrewarded": ("−", "none", "none", "−"),
    "every": ("+", "none", "none", "+"),
}
NOTE = (
    "Rise and decay is fitted to each seed; peak, its step, the half-decay (half way from peak to "
    "end) and the value at the end are those of the fitted curve, since the parameters of the form "
    "themselves are not determined where rise and decay are equally fast. Effects are differences "
    "to default of the same seed, mean over seeds with the 95 % Student interval; steps in units "
    "of 1,000. Sign: 0 if the interval holds zero. FirstOnly: the sign there, – if it has no such "
    "variable, none if it has no peak; salience of 'already planted' stands for sight and memory."
)


def fitted_landmarks(steps: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Landmarks of the fitted rise and decay.

    Args:
        steps: `[n]`, environment steps.
        values: `[n]`, plants per episode.

    Returns:
        Those of `FORM_LANDMARKS`, of the fitted curve at these steps (between two of them a fit may
        do what no record forbids); nan where it has none.
    """
    curve = np.maximum(fit_form(steps, values, rise_decay()).predict(steps), 0.0)
    found = landmarks(steps, curve, num_end=1)
    return {name: float(getattr(found, name)) for name in FORM_LANDMARKS}


def effects_table(rows: list[dict[str, Any]]) -> Table:
    """One row for each variant but the default; without the default an empty table."""
    header = ["variant", *(f"{name}{unit}" for name in FORM_LANDMARKS for unit in ("", ", sign"))]
    values = {row["variant"]: _values(row) for row in rows}
    body = []
    for variant in values if "default" in values else ():
        if variant == "default":
            continue
        predicted = PREDICTED.get(variant, ("–",) * len(FORM_LANDMARKS))
        cells = [variant]
        for column, sign in zip((values[variant] - values["default"]).T, predicted, strict=True):
            cells += _effect(column, sign)
        body.append(cells)
    return Table("Effects on the fitted form", header, body, NOTE)


# Of three seeds the spread is hardly known, and its chains mix slowly.
NUM_DRAWS = 5000
RANDOM_NOTE = (
    "The same effects by `slt_rl.development.seed_effects`: seeds at random, one residual for all "
    "variants, which tells the spread better than three differences do, if it is the same for all. "
    "Posterior mean and central 95 % interval; seeds without the landmark are left out. `between "
    f"seeds` and `residual` are standard deviations. Four chains of {NUM_DRAWS:,} draws."
)


def random_seed_table(
    rows: list[dict[str, Any]], redrawn: Mapping[str, Any] | None = None
) -> Table:
    """One row for each variant but the default, and two for what the effects do not explain.

    Args:
        rows: Of the variants.
        redrawn: Command, date, commit and versions, if this table alone was computed anew.
    """
    header = ["variant", *FORM_LANDMARKS]
    note = RANDOM_NOTE if redrawn is None else f"{RANDOM_NOTE} {_redrawn_note(redrawn)}"
    names = [row["variant"] for row in rows]
    # A rise to the end has neither peak nor decay, and its spread is that of another curve.
    used = [row for row in rows if row["variant"] != "every"]
    if "default" not in names or len(used) < 2:
        return Table("Effects with the seed at random", header, [], note)
    used.sort(key=lambda row: row["variant"] != "default")
    columns = [_random_effects(used, place) for place in range(len(FORM_LANDMARKS))]
    labels = [*(row["variant"] for row in used[1:]), "between seeds", "residual"]
    body = [list(cells) for cells in zip(labels, *columns, strict=True)]
    return Table("Effects with the seed at random", header, body, note)


def _redrawn_note(redrawn: Mapping[str, Any]) -> str:
    sampler = f"numpyro {redrawn['versions']['numpyro']}"
    return (
        f"This table alone was computed anew, of the stored rows, by `{redrawn['command']}` on "
        f"{redrawn['date']} at commit {redrawn['commit']}, {sampler}."
    )


def _random_effects(rows: list[dict[str, Any]], place: int) -> list[str]:
    """Effects of all variants on one landmark, then the scale of seeds and of the residual."""
    values = np.array([_values(row)[:, place] for row in rows])
    num_variants, num_seeds = values.shape
    variables = np.repeat(np.eye(num_variants)[:, 1:], num_seeds, axis=0)
    seeds = np.tile(np.arange(num_seeds), num_variants)
    key = jax.random.key(place)
    found = seed_effects(key, values.ravel(), variables, seeds=seeds, num_draws=NUM_DRAWS)
    cells = [_shown(*x) for x in zip(found.mean, found.low, found.high, strict=True)]
    return [*cells, f"{found.seed_scale:.2g}", f"{found.residual_scale:.2g}"]


def _shown(mean: float, low: float, high: float) -> str:
    digits = 0 if abs(mean) >= 10 else 2
    return f"{mean:+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _values(row: dict[str, Any]) -> np.ndarray:
    """`[seed, landmark]`, steps in thousands."""
    units = np.array([1e3 if name.endswith("step") else 1.0 for name in FORM_LANDMARKS])
    found = [[seed[name] for name in FORM_LANDMARKS] for seed in row["fitted"]]
    # What a record has no number for is None there.
    return np.array(found, np.float64) / units


def _effect(differences: np.ndarray, predicted: str) -> list[str]:
    """The effect with its interval, and its sign beside the predicted one."""
    if not np.all(np.isfinite(differences)):
        return ["–", f"– (FirstOnly {predicted})"]
    found = seed_mean(differences)
    sign = "+" if found.low > 0 else "−" if found.high < 0 else "0"
    return [_shown(found.mean, found.low, found.high), f"{sign} (FirstOnly {predicted})"]
