"""Trains the toy model of superposition on labels and by PPO, and says where the runs are."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.development.transitions import label_transitions, plateaus
from slt_rl.report.checks import Check
from slt_rl.rl import linear_schedule, run_keys
from slt_rl.validation.protocol import ACTION_SCALE, NUM_FEATURES, Protocol
from toy_models import superposition as tms
from toy_models import superposition_rl as bandit
from toy_models import superposition_training as supervised

LEVEL_TOLERANCE = 1e-3
# A record is at rest if the loss stays within the tolerance over so many records to each side.
REST_RECORDS = 2
# A class counts as visited when it holds for so many records in a row.
PERSISTENCE = 2
Progress = Callable[[str, int, int], None]


def _ignore(stage: str, done: int, total: int) -> None:
    del stage, done, total


def train_supervised(
    key: jax.Array, protocol: Protocol, progress: Progress = _ignore
) -> dict[str, np.ndarray]:
    """Stochastic gradient descent by the reported protocol, all runs in one program."""
    runs = supervised.start_runs(
        key, protocol.num_supervised, NUM_FEATURES, num_examples=protocol.num_examples
    )
    epochs = linear_schedule(protocol.num_epochs, protocol.num_checkpoints)
    steps, found = [], []
    for step, state in supervised.train(runs, epochs):
        steps.append(step)
        found.append(jax.tree.map(np.asarray, state.params))
        progress("supervised training", len(steps), len(epochs))
    data = {f"states_{k}": np.asarray(v) for k, v in runs.data.items()}
    return _series(steps, found) | data


def train_ppo(
    key: jax.Array, protocol: Protocol, progress: Progress = _ignore
) -> dict[str, np.ndarray]:
    """PPO on the bandit whose regret is the supervised loss, all runs in one program."""
    key_train, key_states = jax.random.split(key)
    recipe = bandit.PPORecipe(num_features=NUM_FEATURES, sigma=ACTION_SCALE)
    start = bandit.start_ppo(key_train, recipe, protocol.num_ppo)
    schedule = linear_schedule(protocol.num_iterations, protocol.num_checkpoints)
    found, returns = [], []
    for states, stats in bandit.train_ppo(key_train, recipe, start, checkpoints=schedule):
        found.append(jax.tree.map(np.asarray, states.params["policy"]))
        returns.append(np.asarray(stats.mean_return).mean(axis=1))
        progress("PPO training", len(found), len(schedule))
    sample = jax.vmap(lambda k: tms.sample_examples(k, protocol.num_examples, NUM_FEATURES))
    examples = jax.jit(sample)(run_keys(key_states, protocol.num_ppo))
    data = {f"states_{k}": np.asarray(v) for k, v in examples.items()}
    return _series(list(schedule), found) | data | {"mean_return": np.stack(returns, axis=1)}


def _series(steps: list[int], params: list[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Parameters, exact loss and class of every run at every checkpoint, `[run, record, ...]`."""
    weights = np.stack([p["W"] for p in params], axis=1)
    biases = np.stack([p["b"] for p in params], axis=1)
    return {
        "steps": np.array(steps),
        "W": weights,
        "b": biases,
        "loss": tms.population_loss_host(weights, biases),
        "labels": tms.classify({"W": weights, "b": biases}, tolerance=LEVEL_TOLERANCE),
    }


def at_rest(loss: np.ndarray) -> np.ndarray:
    """Whether the loss hardly moves around a record, `[run, record]`: it is outside transit."""
    padded = np.pad(loss, ((0, 0), (REST_RECORDS, REST_RECORDS)), mode="edge")
    window = np.lib.stride_tricks.sliding_window_view(padded, 2 * REST_RECORDS + 1, axis=1)
    return np.ptp(window, axis=-1) < LEVEL_TOLERANCE


def near_level(loss: np.ndarray) -> np.ndarray:
    """Whether the loss is within the tolerance of the level of some known class."""
    levels = np.array([tms.level(c, NUM_FEATURES) for c in tms.known_classes(NUM_FEATURES)])
    return np.abs(loss[..., None] - levels).min(axis=-1) <= LEVEL_TOLERANCE


def sequences(labels: np.ndarray) -> list[str]:
    """The classes each run passes through, such as "4+ → 5"."""
    visits = [[p.label for p in plateaus(row, persistence=PERSISTENCE)] for row in labels]
    return [" → ".join(visit) or "none" for visit in visits]


def count_sequences(labels: np.ndarray) -> dict[str, int]:
    """Sequences of classes with the number of runs that show them, most frequent first."""
    names, counts = np.unique(sequences(labels), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(names[i]): int(counts[i]) for i in order}


def supervised_checks(arrays: Mapping[str, np.ndarray], protocol: Protocol) -> list[Check]:
    """Enough runs, and plateaus at known levels."""
    return [
        _enough(arrays, "supervised", protocol.min_supervised),
        _at_levels(arrays, "supervised", "the exact population loss"),
        _sequence_check(arrays, "supervised"),
    ]


def ppo_checks(arrays: Mapping[str, np.ndarray], protocol: Protocol) -> list[Check]:
    """Enough runs, plateaus at known returns, and movement between classes."""
    labels = arrays["labels"]
    visited = [{p.label for p in plateaus(row, persistence=PERSISTENCE)} for row in labels]
    moved = float(np.mean([len(v) >= 2 for v in visited]))
    deep = sum(bool(v & {"5", "5+", "6"}) for v in visited)
    return [
        _enough(arrays, "PPO", protocol.min_ppo),
        _at_levels(arrays, "PPO", "minus return minus c sigma^2, in expectation"),
        _sequence_check(arrays, "PPO"),
        Check(
            "PPO: stages",
            "Share of PPO runs that pass through two or more classes.",
            "at least a quarter",
            moved,
            moved >= 0.25,
            group="Training",
        ),
        Check(
            "PPO: deep classes",
            "PPO runs that reach class 5, 5+ or 6.",
            "at least one",
            deep,
            deep >= 1,
            f"of {len(labels)} runs",
            "Training",
        ),
        _return_check(arrays),
    ]


def _enough(arrays, name: str, minimum: int) -> Check:
    count = len(arrays["loss"])
    return Check(
        f"{name}: runs",
        f"Number of {name} runs, trained in one program.",
        f"at least {minimum}",
        count,
        count >= minimum,
        group="Training",
    )


def _at_levels(arrays, name: str, scale: str) -> Check:
    rest = at_rest(arrays["loss"])
    share = float(near_level(arrays["loss"])[rest].mean()) if rest.any() else float("nan")
    return Check(
        f"{name}: levels",
        f"Share of {name} checkpoints outside transit (loss within {LEVEL_TOLERANCE:g} over "
        f"{2 * REST_RECORDS + 1} records) whose loss ({scale}) is within {LEVEL_TOLERANCE:g} of a "
        "known level.",
        "at least 90 %",
        share,
        share >= 0.9,
        f"{int(rest.sum())} of {rest.size} checkpoints are outside transit",
        "Training",
    )


def _sequence_check(arrays, name: str) -> Check:
    counts = count_sequences(arrays["labels"])
    total = sum(
        len(label_transitions(list(arrays["steps"]), row, persistence=PERSISTENCE))
        for row in arrays["labels"]
    )
    return Check(
        f"{name}: sequences",
        f"Sequences of classes of the {name} runs, with counts.",
        "at least one transition",
        counts,
        total > 0,
        f"{total} transitions",
        "Training",
    )


def _return_check(arrays) -> Check:
    """The returns PPO itself recorded against the closed form at its checkpoints."""
    # A record's return averages the iterations since the record before.
    inside = at_rest(arrays["loss"])
    regret = -arrays["mean_return"] - NUM_FEATURES * ACTION_SCALE**2
    difference = (regret - arrays["loss"])[inside]
    mean, spread = float("nan"), float("nan")
    if difference.size:
        mean, spread = float(np.mean(difference)), float(np.std(difference))
    return Check(
        "PPO: returns",
        "Mean of (minus recorded return - c sigma^2) - L over the inside of plateaus, L the "
        "closed-form loss of the checkpoint: the return is -(L + c sigma^2).",
        "below 3e-4 in size",
        mean,
        abs(mean) < 3e-4,
        f"{difference.size} checkpoints; spread {spread:.1e} from the sampling of "
        "states and actions",
        "Training",
    )


def as_params(arrays: Mapping[str, np.ndarray], run: int) -> dict[str, jax.Array]:
    """The checkpoints of one run, `{"W": [record, 2, c], "b": [record, c]}`."""
    return {"W": jnp.asarray(arrays["W"][run]), "b": jnp.asarray(arrays["b"][run])}


def states_of(arrays: Mapping[str, np.ndarray], run: int) -> dict[str, jax.Array]:
    """The sampled states of one run in sparse form."""
    return {k: jnp.asarray(arrays[f"states_{k}"][run]) for k in ("feature", "amplitude")}
