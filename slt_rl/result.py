"""What an estimation returns: one estimate, or a curve of them."""

import dataclasses
from typing import Any

import numpy as np
from scipy import stats

from slt_rl._numbers import check_fraction
from slt_rl.chains import Draws


@dataclasses.dataclass(frozen=True)
class LLCEstimate:
    r"""A local learning coefficient with its interval, its error budget and a verdict.

    `mean` is `nbeta (E[L(w)] - L(w*))` under `exp(-nbeta L(w) - localization/2 |w - w*|^2)`: the
    learning coefficient at the stated `(nbeta, localization)`, not its limit at `nbeta -> inf`.
    It has no unit.

    Args:
        mean: the estimate; NaN if a chain left the finite numbers.
        sem: Monte-Carlo standard error of `mean`.
        per_chain: `[chain]` estimates of the single chains; NaN for a frozen chain.
        nbeta: inverse temperature `n beta`.
        localization: in 1/parameter^2.
        step_size: the sampler's step size in its own unit.
        verdict: `"trusted"`, `"doubtful"` or `"refused"`.
        regime: `"plateau"`, `"localization-dominated"` or `"temperature-dependent"`: whether the
            number would change with `(nbeta, localization)`; `"unknown"` where the draws do not
            tell. A statement apart from the verdict.
        flags: every reason for the verdict, in words.
        notes: what calibration chose or mended, in words, and what the loss says of its own scale
            (`loss_fn.scale_note`), which no check can see.
        error_budget: error terms in units of the learning coefficient: `monte_carlo`,
            `discretization`, `minibatch`, `relaxation`, `anchor`, `data_set` (standard error over
            data sets of this size, NaN for an exact potential) and `localization` (change for a
            localization e times as strong: what `regime` is about, no part of the interval; NaN
            where the draws do not tell). Of a chain that left the finite numbers all are NaN but
            `anchor`.
        num_gradient_evaluations: gradients of the loss spent, calibration included.
        diagnostics: equipartition ratio, split R-hat, effective sample size, slopes and more; only
            `ess` and `calibration_gradients` where a chain left the finite numbers.
        draws: the draws behind the estimate, `[chain, draw]`.
        observations: what `observe_fn` returned, a pytree of NumPy arrays with axes
            `[chain, draw // observe_every, ...]`; `None` without it.
    """

    mean: float
    sem: float
    per_chain: np.ndarray
    nbeta: float
    localization: float
    step_size: float
    verdict: str
    regime: str
    flags: tuple[str, ...]
    notes: tuple[str, ...]
    error_budget: dict[str, float]
    num_gradient_evaluations: int
    diagnostics: dict[str, float]
    draws: Draws = dataclasses.field(repr=False)
    observations: Any = dataclasses.field(default=None, repr=False)

    def interval(self, level: float = 0.95, *, given_data: bool = False) -> tuple[float, float]:
        """Returns the interval that holds the value with probability `level`.

        Its half-width is a Student quantile of the Monte-Carlo and data-set errors, which are
        random and add in squares, plus the systematic terms of the error budget. The value is that
        at the stated `(nbeta, localization)`: how it would change with these is not in it.

        Args:
            level: coverage, in (0, 1).
            given_data: the value for the loss of this very data set, not of its distribution: the
                data-set error is left out. For comparisons on the same data.

        Raises:
            ValueError: if `level` is outside (0, 1).
        """
        check_fraction("level", level)
        terms = {k: v for k, v in self.error_budget.items() if np.isfinite(v)}
        random = self.sem if given_data else np.hypot(self.sem, terms.get("data_set", 0.0))
        apart = ("monte_carlo", "data_set", "localization")
        systematic = sum(v for k, v in terms.items() if k not in apart)
        freedom = max(self.diagnostics["ess"] - 1, 1)
        half = stats.t.ppf(0.5 + level / 2, freedom) * random + systematic
        return float(self.mean - half), float(self.mean + half)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but draws and observations as plain values for `json.dumps`.

        A number that is not finite stays so; `json.dumps` writes it as `NaN`.
        """
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del fields["draws"], fields["observations"]
        fields["per_chain"] = np.asarray(self.per_chain).tolist()
        fields["flags"], fields["notes"] = list(self.flags), list(self.notes)
        fields["interval"] = list(self.interval())
        return fields

    def to_arviz(self):
        """Returns the draws as an `arviz.InferenceData`: `llc` and `squared_distance`."""
        import arviz

        posterior = {
            "llc": self.nbeta * self.draws.excess_loss,
            "squared_distance": self.draws.squared_distance,
        }
        return arviz.from_dict(posterior=posterior)

    def __str__(self) -> str:
        low, high = self.interval()
        lines = [
            f"local learning coefficient {self.mean:.4g}  (95% interval {low:.4g} to {high:.4g})",
            f"  {self.verdict}; {self.regime} at nbeta={self.nbeta:.6g}, "
            f"localization={self.localization:.4g}{self._slopes()}",
            f"  {len(self.per_chain)} chains, effective draws {self.diagnostics['ess']:.0f}, "
            f"{self.num_gradient_evaluations} gradient evaluations",
            # What is far below the Monte-Carlo error changes nothing.
            "  error budget: "
            + ", ".join(f"{k} {v:.2g}" for k, v in self.error_budget.items() if v > self.sem / 100),
        ]
        lines += [f"  - {flag}" for flag in self.flags]
        return "\n".join(lines + [f"  (note) {note}" for note in self.notes])

    def _slopes(self) -> str:
        """What `regime` rests on; nothing where some chain left the finite numbers."""
        if "localization_slope" not in self.diagnostics:
            return ""
        texts = [
            f"{self.diagnostics[f'{name}_slope']:.2g} +- "
            f"{self.diagnostics[f'{name}_slope_sem']:.1g} in log {symbol}"
            for name, symbol in (("localization", "localization"), ("temperature", "nbeta"))
        ]
        return f" (relative slope {', '.join(texts)})"


@dataclasses.dataclass(frozen=True)
class LLCCurve:
    """Estimates along a series of checkpoints.

    Args:
        steps: `[checkpoint]`, training steps (or indices).
        estimates: one `LLCEstimate` per checkpoint.
    """

    steps: np.ndarray
    estimates: tuple[LLCEstimate, ...]

    def __len__(self) -> int:
        return len(self.estimates)

    def __getitem__(self, index: int) -> LLCEstimate:
        return self.estimates[index]

    @property
    def mean(self) -> np.ndarray:
        """`[checkpoint]` estimates."""
        return np.array([e.mean for e in self.estimates])

    @property
    def sem(self) -> np.ndarray:
        """`[checkpoint]` Monte-Carlo standard errors."""
        return np.array([e.sem for e in self.estimates])

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The verdict of each checkpoint."""
        return tuple(e.verdict for e in self.estimates)

    def interval(self, level: float = 0.95) -> np.ndarray:
        """Returns `[checkpoint, 2]` interval bounds."""
        return np.array([e.interval(level) for e in self.estimates])

    def to_dict(self) -> dict[str, Any]:
        """Returns the curve as JSON-ready values."""
        return {
            "steps": np.asarray(self.steps).tolist(),
            "estimates": [e.to_dict() for e in self.estimates],
        }
