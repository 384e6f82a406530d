"""Runs the chains of an estimation: as long as the result asks for, and what is kept of them."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl import chains, probes
from slt_rl.calibration import Plan
from slt_rl.compilation import LightJit
from slt_rl.diagnostics import Z95, split_r_hat
from slt_rl.estimators import mean_estimate
from slt_rl.parts import cut, together
from slt_rl.samplers import SGLD, KineticLangevin
from slt_rl.settings import Settings
from slt_rl.step_error import balance_of, extrapolate_step

# Chains are lengthened until they are relaxed and the interval meets the tolerance, to at most this
# multiple of the planned length, or to so many draws where that is more: at a tolerance of 5 % and
# above 32768, below it more, in inverse proportion. At most fourfold at once.
MAX_LENGTHENING, MAX_STRETCH = 8, 4.0
MAX_DRAWS_TIMES_TOLERANCE, LARGEST_TOLERANCE = 0.05 * 32_768, 0.05
# So many times more where the estimate is carried to step zero: it then rests on the chains of the
# finer step, half of all and the slower ones, and has more than twice the standard error.
EXTRAPOLATED_LENGTHENING = 4
# Adjusted draws of the audit, as a share of the draws it audits.
AUDIT_SHARE = 0.1
# Examples whose losses are kept for the error of the data set, and blocks at whose ends they are.
MAX_EXAMPLES, MAX_SNAPSHOTS = 2048, 64


class Sample(NamedTuple):
    """What the chains left.

    Args:
        draws: kept draws, axes `[center, chain, draw]`.
        losses: excess losses of examples at the ends of blocks, each `[center, chain, example]`,
            and what all have in the mean there, `[center, chain]`.
        audit: adjusted draws that went on from the chains, or None.
        ends: where the chains ended, a pytree with axes `[center, chain]`.
        num_gradients: `[center]`, gradient evaluations of all draws, `(kept, dropped or audit)`.
        observations: what the observer saw at the kept draws, or None.
    """

    draws: chains.Draws
    losses: list[tuple[np.ndarray, np.ndarray]]
    audit: chains.Draws | None
    ends: Any
    num_gradients: tuple[np.ndarray, np.ndarray]
    observations: Any


class Run(NamedTuple):
    """What all steps of an estimation share."""

    keys: jax.Array
    problem: chains.Problem
    anchors: Any
    plan: Plan
    settings: Settings

    @property
    def is_automatic(self) -> bool:
        """Whether the sampler was calibrated."""
        return self.settings.sampler is None

    @property
    def is_free(self) -> bool:
        """Whether the length of the chains is ours to choose."""
        return self.is_automatic and self.settings.num_draws is None

    @property
    def is_extrapolated(self) -> bool:
        """Whether the estimate is carried to step zero."""
        return self.is_automatic and isinstance(self.plan.sampler, SGLD)

    @property
    def step_sizes(self) -> np.ndarray:
        """`[center, chain]`."""
        shape = (self.problem.num_centers, self.settings.num_chains)
        return np.broadcast_to(probes.step_sizes_of(self.plan.sampler, self.problem), shape)

    def anchor_drops(self) -> np.ndarray:
        """`nbeta^2 |g|^2 / (2 kappa_g)`: the drop of `U` to a better center along the gradient."""
        nbeta, anchors = float(self.problem.nbeta), self.anchors
        stiffness = nbeta * np.maximum(np.asarray(anchors.gradient_curvature, np.float64), 0)
        stiffness = stiffness + float(self.problem.localization) + 1e-30
        return nbeta**2 * np.asarray(anchors.squared_gradient, np.float64) / (2 * stiffness)


@LightJit
def _copied(tree):
    return jax.tree.map(jnp.copy, tree)


def center_draws(draws: chains.Draws, index: int) -> chains.Draws:
    """The draws of one center, axes `[chain, draw]`."""
    return chains.Draws(*(x[index] for x in draws))


def _options(run: Run, observer: chains.Observer | None) -> dict[str, Any]:
    sizes = {"block_length": chains.BLOCK_LENGTH, "batch_size": run.plan.batch_size}
    return sizes | {"observer": observer}


def parts_of(run: Run, sampler: Any, state: chains.ChainState) -> list[tuple]:
    """The chains as they are sampled: keys, sampler and state of each part, or of all together."""
    if run.settings.num_parts == 1:
        return [(run.keys, sampler, state)]
    keys = chains.chain_keys(run.keys, run.settings.num_chains)
    return cut((keys, sampler, state), run.settings.num_parts)


def _blocks(run: Run, parts: list[tuple], observer: chains.Observer | None = None):
    options = _options(run, observer)

    def blocks_of(part):
        keys, sampler, state = part
        return chains.observe_chains(
            keys, run.problem, run.anchors, sampler=sampler, state=state, **options
        )

    blocks = [blocks_of(part) for part in parts]
    return blocks[0] if len(blocks) == 1 else together(blocks)


def first_block(run: Run, part: tuple) -> functools.partial:
    """The call with which the chains of a part begin, to be compiled ahead."""
    keys, sampler, state = part
    options = _options(run, _aligned(run))
    call = chains.block_call(
        keys, run.problem, run.anchors, sampler=sampler, state=state, **options
    )
    return functools.partial(call, state)


def _aligned(run: Run) -> chains.Observer | None:
    """The observer with the phase that observes the first draw after the burn-in."""
    observer = run.settings.observer
    if observer is None:
        return None
    phase = (run.plan.state.step + run.plan.num_burnin) % observer.every
    return dataclasses.replace(observer, phase=phase)


def _observations(observed: list, observer: chains.Observer | None, start: int, stop: int):
    """Joins the observations of the draws `start <= draw < stop`: one in each group of `every`."""
    if observer is None:
        return None
    first, count = start // observer.every, -(-(stop - start) // observer.every)
    return jax.tree.map(
        lambda *x: np.concatenate(x, axis=2)[:, :, first : first + count], *observed
    )


def sample_chains(run: Run, parts: list[tuple], *, key: jax.Array) -> Sample:
    """Runs the chains for the planned length, and longer where the result asks for it.

    Args:
        run: what all steps share.
        parts: of the chains as planned, from `parts_of`; their states are consumed.
        key: random key, consumed.
    """
    plan = run.plan
    total = plan.num_burnin + plan.num_draws
    longest = _longest(run)
    observer = _aligned(run)
    blocks = _blocks(run, parts, observer)
    snapshots = _Snapshots(run, key)
    kept: list[chains.Draws] = []
    observed: list[Any] = []
    start = plan.num_burnin
    while True:
        state, draws, observations = next(blocks)
        kept.append(draws)
        observed.append(observations)
        if run.settings.bar is not None:
            run.settings.bar.sample(draws, start, total, nbeta=float(run.problem.nbeta))
        if len(kept) * chains.BLOCK_LENGTH + snapshots.is_ahead > start:
            snapshots.take(state, len(kept) * chains.BLOCK_LENGTH)
        if len(kept) * chains.BLOCK_LENGTH < total:
            continue
        draws = _concatenate(kept, start, total)
        if total >= longest:
            break
        relaxed, shortage = _settled(run, draws)
        if relaxed and shortage <= 1:
            break
        if not relaxed:
            # What has not relaxed was still burn-in.
            every = 1 if observer is None else observer.every
            start += (total - start) // 2 // every * every
            shortage = max(shortage, 2.0)
        total = int(min(total * min(1.1 * shortage, MAX_STRETCH), longest))
    audit = _audit(run, state, draws)
    used = draws.num_gradients.sum(axis=(1, 2))
    aside = np.stack([x.num_gradients.sum(axis=(1, 2)) for x in kept]).sum(axis=0) - used
    if audit is not None:
        aside = aside + audit.num_gradients.sum(axis=(1, 2))
    seen = _observations(observed, observer, start, total)
    ends = state.sampler_state.position
    return Sample(draws, snapshots.with_means(kept), audit, ends, (used, aside), seen)


def _longest(run: Run) -> int:
    """At how many draws the chains stop, whatever is wrong with them."""
    plan = run.plan
    if not run.is_free:
        return plan.num_burnin + plan.num_draws
    most = MAX_DRAWS_TIMES_TOLERANCE / min(run.settings.tolerance, LARGEST_TOLERANCE)
    longest = max(MAX_LENGTHENING * plan.num_draws, round(most))
    return longest * (EXTRAPOLATED_LENGTHENING if run.is_extrapolated else 1)


def _concatenate(kept: list[chains.Draws], start: int, total: int) -> chains.Draws:
    return chains.Draws(
        *(np.concatenate(x, axis=2)[:, :, start:total] for x in zip(*kept, strict=True))
    )


def _settled(run: Run, draws: chains.Draws) -> tuple[bool, float]:
    """Whether all centers are relaxed, and by what factor the most imprecise needs more draws.

    A center that no length of chain can save (not finite, or not a minimum) does not count.
    """
    relaxed, shortage = True, 0.0
    for i, drop in enumerate(run.anchor_drops()):
        one = center_draws(draws, i)
        if not one.alive.all():
            continue
        values = float(run.problem.nbeta) * np.asarray(one.excess_loss, np.float64)
        estimate = mean_estimate(values)
        steps = run.step_sizes[i] if run.is_extrapolated else None
        at_zero = None if steps is None else extrapolate_step(values, steps, order=1)
        estimate = estimate if at_zero is None else at_zero.estimate
        if estimate.mean < 2 * estimate.sem + drop:
            continue
        error = Z95 * estimate.sem / (run.settings.tolerance * estimate.mean)
        shortage = max(shortage, error**2)
        relaxed &= _is_relaxed(one, run.problem.leaf_sizes, steps)
    return relaxed, shortage


def _is_relaxed(draws: chains.Draws, leaf_sizes: np.ndarray, steps: np.ndarray | None) -> bool:
    """Equipartition within a hundredth (three in a leaf) and its error, and chains that agree."""
    balance = balance_of(draws.virial, leaf_sizes, steps)
    leaf_sems = balance.sem * np.sqrt(leaf_sizes.sum() / leaf_sizes)
    balanced = abs(balance.ratio - 1) < 0.01 + 2 * balance.sem
    balanced &= bool(np.all(np.abs(balance.per_leaf - 1) < 0.03 + 2.5 * leaf_sems))
    return balanced and split_r_hat(draws.excess_loss) < 1.05


class _Snapshots:
    """Losses of single examples at the ends of blocks, for the error of the data set."""

    def __init__(self, run: Run, key: jax.Array):
        self.run = run
        num_examples = probes.num_examples_of(run.anchors)
        self.indices, self.left_out = None, 0.0
        if num_examples is not None:
            self.indices = probes.choose_examples(key, num_examples, MAX_EXAMPLES)
            self.left_out = 1 / len(self.indices) - 1 / num_examples
        # SGLD records the mean loss where it leaves, with the draw to come; all others where they
        # arrive.
        self.is_ahead = self.left_out > 0 and isinstance(run.plan.sampler, SGLD)
        self.taken: list[tuple[int, np.ndarray]] = []
        self.every, self.seen = 1, 0

    def take(self, state: chains.ChainState, num_steps: int) -> None:
        """Keeps the losses at the chains' positions, of ever fewer blocks as they grow many."""
        if self.indices is None:
            return
        if self.seen % self.every == 0:
            positions = state.sampler_state.position
            found = probes.example_losses(
                self.run.problem, self.run.anchors, positions=positions, indices=self.indices
            )
            # Those of a chain that diverges may exceed single precision; nothing is made of them.
            with np.errstate(over="ignore"):
                self.taken.append((num_steps, np.asarray(found, np.float32)))
        if len(self.taken) == MAX_SNAPSHOTS:
            self.taken, self.every = self.taken[::2], 2 * self.every
        self.seen += 1

    def with_means(self, kept: list[chains.Draws]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The losses, and beside each what the chains recorded at its positions: of all examples.

        The mean of a sample has another slope at the center than that of all: its covariances with
        single examples would make the error of the data set grow with the examples left out.
        """
        recorded = np.concatenate([x.excess_loss for x in kept], axis=2)
        shift = 0 if self.is_ahead else -1
        known = [(n + shift, x) for n, x in self.taken if n + shift < recorded.shape[2]]
        if not self.left_out or self._is_noisier(recorded, len(known)):
            return [(x, x.mean(axis=2, dtype=np.float64)) for _, x in known]
        return [(x, recorded[:, :, n]) for n, x in known]

    def _is_noisier(self, recorded: np.ndarray, num_snapshots: int) -> bool:
        """Whether recorded losses of minibatches miss by more than the mean of the sample does.

        In a regular model of `d` parameters the sample adds `t^2 d/n (1/m - 1/n)` to the variance,
        with `t = nbeta` and `m` of `n` examples. Minibatches of `b` add `t^2 d^2 / (n b N)` at `N`
        positions, which the jackknife takes off again but for its noise, `sqrt(2/d)` of it.
        """
        plan = self.run.plan
        if plan.batch_size is None or plan.sampler.control_variate:
            return False
        num_losses = plan.batch_size * num_snapshots * recorded.shape[1]
        # Nothing is made of chains that diverge.
        with np.errstate(over="ignore", invalid="ignore"):
            excess = recorded.mean(axis=(1, 2), dtype=np.float64).max()
        num_parameters = 2 * float(self.run.problem.nbeta) * excess
        return bool(2 * num_parameters > (num_losses * self.left_out) ** 2)


def _audit(run: Run, state: chains.ChainState, draws: chains.Draws) -> chains.Draws | None:
    """Goes on from the chains' own states with accepted or rejected steps of the same program."""
    if not (run.is_automatic and isinstance(run.plan.sampler, KineticLangevin)):
        return None
    sampler = run.plan.sampler
    adjusted = dataclasses.replace(sampler, adjusted=np.ones_like(sampler.adjusted))
    length = draws.excess_loss.shape[2]
    count = max(int(AUDIT_SHARE * length / chains.BLOCK_LENGTH), 1)
    # A copy, for blocks consume their start, and where the chains ended is still asked for.
    blocks = _blocks(run, parts_of(run, adjusted, _copied(state)))
    return _concatenate([next(blocks)[1] for _ in range(count)], 0, count * chains.BLOCK_LENGTH)
