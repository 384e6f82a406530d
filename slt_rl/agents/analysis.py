"""What `slt-rl develop` says of one curve: landmarks, stages and forms, with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slt_rl.agents.candidates import candidate_forms
from slt_rl.agents.series import Series
from slt_rl.development import (
    Form,
    FormComparison,
    FormFit,
    compare_forms,
    confusion_table,
    detect_stages,
    landmarks,
    overshoot_p_value,
    seed_mean,
)

LANDMARKS = ("first", "peak", "peak_step", "half_decay_step", "end", "overshoot")
# Those that are times.
STEPS = ("first", "peak_step", "half_decay_step")
NUM_RESAMPLES = 200
# Series simulated from each of the two best forms.
NUM_SIMULATED = 10
# Share of the records at the end whose mean is the end of a curve.
END_SHARE = 0.1


def describe_series(
    series: Series,
    *,
    level: float = 0.05,
    num_simulated: int = NUM_SIMULATED,
    observed: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Everything said of a curve, as JSON values (nan where there is nothing to say).

    Args:
        series: The curve.
        level: Level of the test for stages.
        num_simulated: Series simulated from each of the two best forms of the mean; none if 0.
        observed: Event -> environment step of each seed at which it set in, `[seed]`, known from
            other curves: forms locked to it compete, see `candidate_forms`; of the mean over seeds
            locked to the mean step, if every seed has one.

    Returns:
        `landmarks` over seeds and of each seed with its interval over episodes, `overshoot_p` of
        each seed, `stages` and `forms` of the mean over seeds and of each seed; with the forms of
        the mean a `confusion`, which of them would be chosen if either of the two best were true.

    Raises:
        ValueError: If the curve has gaps or too few points; the text names it.
    """
    try:
        return _describe(series, level, num_simulated, observed or {})
    except ValueError as error:
        raise ValueError(f"{series.name}: {error}") from error


def _describe(
    series: Series, level: float, num_simulated: int, observed: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    mean = series.values.mean(axis=0)
    forms = candidate_forms(series, {name: float(x.mean()) for name, x in observed.items()})
    forms_of_seeds = [
        candidate_forms(series, {name: float(x[k]) for name, x in observed.items()})
        for k in range(len(series.seeds))
    ]
    return {
        "name": series.name,
        "unit": series.unit,
        "seeds": list(series.seeds),
        "steps": series.steps.tolist(),
        "mean": mean.tolist(),
        "values": series.values.tolist(),
        "sem": series.sem.tolist(),
        "landmarks": landmark_table(series),
        "overshoot_p": [_overshoot(x, s) for x, s in zip(series.values, series.sem, strict=True)],
        "stages": _stages(series.steps, mean, level),
        "stages_of_seeds": [_stages(series.steps, x, level) for x in series.values],
        "observed": {name: x.tolist() for name, x in observed.items()},
        "forms": _forms(series.steps, mean, forms, num_simulated),
        "forms_of_seeds": [
            _forms(series.steps, x, own)
            for x, own in zip(series.values, forms_of_seeds, strict=True)
        ],
    }


def _num_end(num_records: int) -> int:
    return max(1, round(END_SHARE * num_records))


def landmark_table(series: Series) -> dict[str, Any]:
    """Landmarks of a curve: over seeds, and of each seed with an interval over its episodes.

    Args:
        series: The curve.

    Returns:
        For each landmark `per_seed` `[seed]`, `low` and `high` of each seed (percentiles over 200
        curves moved by normal noise of the standard errors; the peak of a noisy curve is biased
        upward, and so is its interval), and the mean over seeds with its Student interval
        `mean`, `mean_low`, `mean_high` (nan for one seed, or where a seed has no such landmark);
        that of a step ends with the curve, since its mean lies within.
    """
    num_end = _num_end(len(series.steps))
    noise = np.random.default_rng(0).standard_normal((NUM_RESAMPLES, *series.values.shape))
    moved = series.values + np.nan_to_num(series.sem) * noise
    per_seed = np.array([landmarks(series.steps, x, num_end=num_end) for x in series.values])
    resampled = np.array(
        [[landmarks(series.steps, x, num_end=num_end) for x in seeds] for seeds in moved]
    )
    table = {}
    for i, name in enumerate(LANDMARKS):
        low, high = _percentiles(resampled[..., i])
        ends = (series.steps[0], series.steps[-1]) if name in STEPS else (-np.inf, np.inf)
        row = {"per_seed": per_seed[:, i].tolist(), "low": low.tolist(), "high": high.tolist()}
        table[name] = row | _over_seeds(per_seed[:, i], ends)
    return table


def _percentiles(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval over the resamples `[resample, seed]` that have a number."""
    bounds = np.full((2, values.shape[1]), np.nan)
    for seed, column in enumerate(values.T):
        numbers = column[np.isfinite(column)]
        if numbers.size:
            bounds[:, seed] = np.percentile(numbers, (2.5, 97.5))
    return bounds[0], bounds[1]


def _over_seeds(values: np.ndarray, ends: tuple[float, float]) -> dict[str, float]:
    if len(values) < 2:
        return {"mean": float(values[0]), "mean_low": np.nan, "mean_high": np.nan}
    found = seed_mean(values)
    return {
        "mean": float(found.mean),
        "mean_low": max(float(found.low), float(ends[0])),
        "mean_high": min(float(found.high), float(ends[1])),
    }


def _overshoot(values: np.ndarray, sem: np.ndarray) -> float:
    """The p-value against curves that only rise; nan where there are no standard errors."""
    if not np.isfinite(sem).all():
        return float("nan")
    return overshoot_p_value(0, values, sem, num_end=_num_end(len(values)))


def _stages(steps: np.ndarray, values: np.ndarray, level: float) -> dict[str, Any]:
    found = detect_stages(values, level=level)
    return {
        "boundary_steps": [float(steps[i - 1] + steps[i]) / 2 for i in found.boundaries],
        "levels": list(found.levels),
        "p_value": found.p_value,
        "rho": found.rho,
    }


def _forms(
    steps: np.ndarray, values: np.ndarray, forms: Sequence[Form], num_simulated: int = 0
) -> dict[str, Any]:
    """The forms by BIC, with their parameters."""
    found: FormComparison = compare_forms(steps, values, forms)
    best = found.fits[0].bic
    return {
        "winner": found.winner,
        "tied": list(found.tied),
        "table": [_fit(fit, best) for fit in found.fits],
        "curve": found.fits[0].predict(steps).tolist(),
        "confusion": _confusion(steps, found, forms, num_simulated) if num_simulated else None,
    }


def _confusion(
    steps: np.ndarray, found: FormComparison, forms: Sequence[Form], num_series: int
) -> dict[str, Any]:
    """What is chosen of data like these if the best form is true, and if the next one is."""
    truths = [(fit.form, fit.params, fit.noise_std) for fit in found.fits[:2]]
    table = confusion_table(0, steps, truths, forms=forms, num_series=num_series)
    return {
        "num_series": num_series,
        "truths": list(table.truths),
        "forms": list(table.forms),
        "wins": table.wins.tolist(),
        "ties": table.ties.tolist(),
    }


def _fit(fit: FormFit, best: float) -> dict[str, Any]:
    return {
        "form": fit.form.name,
        "delta_bic": fit.bic - best,
        "noise_std": fit.noise_std,
        "rho": fit.rho,
        "at_bound": list(fit.at_bound),
        "params": dict(zip(fit.form.names, fit.params.tolist(), strict=True)),
        "sem": dict(zip(fit.form.names, fit.sem.tolist(), strict=True)),
    }
