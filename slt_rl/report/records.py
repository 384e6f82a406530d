"""What the figures show: plain arrays with names, checked once."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from slt_rl.development.stages import Detection
from slt_rl.development.transitions import Transition


@dataclasses.dataclass(frozen=True)
class TrainingCurves:
    """Several runs of one way of training.

    Attributes:
        name: What was trained, for example "Supervised (SGD)".
        step_label: Name and unit of a step, for example "SGD steps".
        steps: Training step of each record, `[record]`.
        loss: Population loss, `[run, record]`.
        labels: Class of each record, text `[run, record]`.
        llc: Estimate of the local learning coefficient, `[run, record]`; nan where not measured.
        lower: Lower end of its interval, as `llc`.
        upper: Upper end of its interval, as `llc`.
        columns: Columns of the weights, `[run, record, 2, feature]`.
        biases: Biases, `[run, record, feature]`.
        true: For each run its transitions known from labels.
        detected: For each run its transitions detected from curves.
        log_steps: Whether steps are drawn on a logarithmic axis.

    Raises:
        ValueError: If an array has another shape than the steps and the loss ask for.
    """

    name: str
    step_label: str
    steps: np.ndarray
    loss: np.ndarray
    labels: np.ndarray
    llc: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    columns: np.ndarray
    biases: np.ndarray
    true: Sequence[Sequence[Transition]]
    detected: Sequence[Sequence[Detection]]
    log_steps: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "loss", "labels", "llc", "lower", "upper", "columns", "biases"):
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        if self.loss.ndim != 2 or self.steps.shape != self.loss.shape[1:]:
            raise ValueError(
                f"loss: got shape {self.loss.shape}, expected [run, {self.steps.size} records]"
            )
        num_features = self.biases.shape[-1] if self.biases.ndim else 0
        expected = {name: self.loss.shape for name in ("labels", "llc", "lower", "upper")}
        expected["columns"] = (*self.loss.shape, 2, num_features)
        expected["biases"] = (*self.loss.shape, num_features)
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name}: got {getattr(self, name).shape}, expected {shape}")
        for name in ("true", "detected"):
            if len(getattr(self, name)) != self.num_runs:
                raise ValueError(
                    f"{name}: got {len(getattr(self, name))} runs, expected {self.num_runs}"
                )

    @property
    def num_runs(self) -> int:
        """Number of runs."""
        return self.loss.shape[0]

    @property
    def measured_runs(self) -> np.ndarray:
        """Indices of the runs with an estimated learning coefficient."""
        return np.flatnonzero(np.isfinite(self.llc).any(axis=1))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Estimates beside what they should be.

    Attributes:
        name: Title.
        target_label: Name of what is on the horizontal axis.
        estimate_label: Name of what is on the vertical axis.
        target: `[point]`.
        target_error: Half width of the interval of the target, `[point]`; zero where it is exact.
        estimate: `[point]`.
        estimate_error: Half width of its interval, `[point]`.
        labels: Class of each point, `[point]`.
    """

    name: str
    target_label: str
    estimate_label: str
    target: np.ndarray
    target_error: np.ndarray
    estimate: np.ndarray
    estimate_error: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        names = ("target", "target_error", "estimate", "estimate_error", "labels")
        for name in names:
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
            if getattr(self, name).shape != self.target.shape or self.target.ndim != 1:
                raise ValueError(
                    f"{name}: got shape {getattr(self, name).shape}, expected one entry per point, "
                    f"{self.target.shape}"
                )

    @property
    def agreement(self) -> float:
        """Share of the points whose two intervals, added in squares, cover their difference."""
        if not self.target.size:
            return float("nan")
        width = np.hypot(self.target_error, self.estimate_error)
        return float(np.mean(np.abs(self.estimate - self.target) <= width))


@dataclasses.dataclass(frozen=True)
class Occupancy:
    """Posterior probability of classes against the number of examples.

    Attributes:
        title: Includes the convention of the likelihood.
        num_examples: `[n]`, increasing.
        probability: For each class its probability, `[n]`.
        error: For each class the half width of the interval of its probability, `[n]`.
        audit: Probabilities by another sampler: for each class `(n, probability, half width)`.
        audit_label: Name of the other sampler.
        crossing: Where two classes are equally probable, if it was found.
        expected_crossing: Where the reference says they are.
    """

    title: str
    num_examples: np.ndarray
    probability: Mapping[str, np.ndarray]
    error: Mapping[str, np.ndarray]
    audit: Mapping[str, tuple[float, float, float]] = dataclasses.field(default_factory=dict)
    audit_label: str = ""
    crossing: float | None = None
    expected_crossing: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_examples", np.asarray(self.num_examples))
        for field in ("probability", "error"):
            for label, values in getattr(self, field).items():
                if np.shape(values) != self.num_examples.shape:
                    raise ValueError(
                        f"{field}[{label!r}]: got shape {np.shape(values)}, "
                        f"expected {self.num_examples.shape}"
                    )
        if self.error.keys() - self.probability.keys():
            raise ValueError(f"error: got {sorted(self.error)}, expected classes of probability")


@dataclasses.dataclass(frozen=True)
class Jump:
    """Change of the estimated learning coefficient over one transition.

    Attributes:
        training: Name of the way of training.
        before: Class that is left.
        after: Class that is reached.
        change: Estimate in the new class minus that in the old class.
        error: Half width of the interval of the change.
        expected: Exact change where it is known.
    """

    training: str
    before: str
    after: str
    change: float
    error: float
    expected: float | None = None
