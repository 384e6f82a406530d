"""Random deep linear networks of the published protocol's data, with automatic calibration.

    python -m benchmarks.deep_linear --class 1K [--nets 20 | --only 3 7] [--time-gradient]
    python -m benchmarks.deep_linear --class 100K --localization 10 --references-only --share 0/2

Inputs are uniform on [-10, 10]^d, labels free of noise, the loss is the squared error averaged over
outputs, nbeta = n/log n, start at the true parameter; all in float32. The localization is that of
`estimate_llc` unless `--localization` says another: at the published 1 the weights grow to several
times their size, and the curvature to 1e10 times the localization. The loss of the n examples
depends on them only through the second moments of the inputs, so those are used: the potential
equals the full-data loss. Values at the same temperature and localization, by exact conditional
draws, need no accelerator and have rows of their own: they can be made elsewhere. Writes
`deep_linear_<class>.md` and `.json`, at a given localization `deep_linear_<class>_localization_10`;
a run that was killed goes on where it stopped.

References:
    Lau et al., "The Local Learning Coefficient", arXiv:2308.12108, for the protocol.
"""

import argparse
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import slt_rl
from benchmarks import deep_linear_page, rows, runs
from benchmarks.deep_linear_gibbs import Posterior, finite_value
from benchmarks.deep_linear_truth import bounds
from slt_rl.llc import default_localization
from toy_models.deep_linear import product

INPUT_RANGE = 10.0
SOURCES = "benchmarks/deep_linear*.py"
_CHUNK = 20_000


class NetClass(NamedTuple):
    """Ranges, ends included, that sizes are drawn from uniformly, and the number of examples."""

    layers: tuple[int, int]
    widths: tuple[int, int]
    num_examples: int


def classes() -> dict[str, NetClass]:
    """The published classes by number of parameters."""
    return {
        "1K": NetClass((2, 5), (5, 50), 100_000),
        "10K": NetClass((2, 10), (5, 100), 100_000),
        "100K": NetClass((2, 10), (50, 500), 1_000_000),
        "1M": NetClass((2, 20), (100, 1000), 1_000_000),
    }


@dataclasses.dataclass(frozen=True)
class Net:
    """A random network of a class.

    Attributes:
        name: Class and number.
        widths: From input to output.
        layer_ranks: Rank of each layer.
        num_examples: Number `n` of inputs.
        seed: Of its weights and inputs.
    """

    name: str
    widths: tuple[int, ...]
    layer_ranks: tuple[int, ...]
    num_examples: int
    seed: tuple[int, ...]

    @property
    def num_parameters(self) -> int:
        """Number of weights."""
        return sum(a * b for a, b in zip(self.widths, self.widths[1:], strict=False))

    def layers(self) -> tuple[np.ndarray, ...]:
        """Xavier layers, cut to their ranks by singular value decomposition, float32."""
        generator = np.random.default_rng((*self.seed, 1))
        made = []
        for fan_in, fan_out, rank in zip(
            self.widths, self.widths[1:], self.layer_ranks, strict=False
        ):
            layer = generator.normal(0, np.sqrt(2 / (fan_in + fan_out)), (fan_out, fan_in))
            if rank < min(fan_in, fan_out):
                left, values, right = np.linalg.svd(layer, full_matrices=False)
                layer = (left[:, :rank] * values[:rank]) @ right[:rank]
            made.append(layer.astype(np.float32))
        return tuple(made)

    def inputs(self):
        """The examples in chunks `[chunk, d]`, float64; the same at every call."""
        generator = np.random.default_rng((*self.seed, 2))
        for start in range(0, self.num_examples, _CHUNK):
            size = (min(_CHUNK, self.num_examples - start), self.widths[0])
            yield generator.uniform(-INPUT_RANGE, INPUT_RANGE, size)


def random_net(label: str, number: int) -> Net:
    """A network of a class: each layer has its rank reduced with probability one half.

    A reduced rank is uniform between 1 and one less than full.
    """
    net_class = classes()[label]
    seed = (list(classes()).index(label), number)
    generator = np.random.default_rng((*seed, 0))
    depth = int(generator.integers(*net_class.layers, endpoint=True))
    widths = [int(x) for x in generator.integers(*net_class.widths, depth + 1, endpoint=True)]
    ranks = []
    for full in map(min, widths, widths[1:]):
        reduced = generator.random() < 0.5 and full > 1
        ranks.append(int(generator.integers(1, full)) if reduced else full)
    return Net(f"{label}/{number}", tuple(widths), tuple(ranks), net_class.num_examples, seed)


def second_moments(net: Net) -> np.ndarray:
    """`X' X / n` of the inputs, `[d, d]` float64, in bounded memory."""
    return sum(x.T @ x for x in net.inputs()) / net.num_examples


def potential_of(layers: Sequence[np.ndarray], moments: np.ndarray) -> Callable:
    """The loss `mean_x |(W_L ... W_1 - P) x|^2 / outputs` as a function of the layers.

    With `C C' = X'X/n` it is `|W_L ... W_1 C - P C|^2 / outputs`: a sum of squares, whose terms
    are far larger than the rounding of float32.

    Args:
        layers: The true layers, which give `P`.
        moments: Second moments of the inputs.
    """
    dtype = layers[0].dtype
    exact = [np.linalg.cholesky(moments), *(np.asarray(layer, np.float64) for layer in layers)]
    factor, teacher = exact[0].astype(dtype), product(exact).astype(dtype)

    def potential(params):
        # In the order of fewest multiplications: up to six times less than from first to last.
        found = jnp.linalg.multi_dot([*reversed(params), factor])
        return jnp.sum((found - teacher) ** 2) / teacher.shape[0]

    return potential


class Options(NamedTuple):
    """How nets are measured: chains, draws and localization (None: automatic)."""

    chains: int
    draws: int | None
    localization: float | None


def measure(net: Net, key: jax.Array, options: Options) -> dict[str, Any]:
    """One automatic estimate at the true parameter, beside what is known of its value."""
    layers, moments = net.layers(), second_moments(net)
    estimate = slt_rl.estimate_llc(
        key,
        potential_of(layers, moments),
        tuple(map(jnp.asarray, layers)),
        nbeta=inverse_temperature(net),
        localization=options.localization,
        num_chains=options.chains,
        num_draws=options.draws,
    )
    known = bounds(net.widths, net.layer_ranks)
    return rows.estimate_row(estimate) | {
        "widths": list(net.widths),
        "layer_ranks": list(net.layer_ranks),
        "parameters": net.num_parameters,
        **{f"bound_{name}": value for name, value in known._asdict().items()},
    }


def inverse_temperature(net: Net) -> float:
    """`n/log n`, as published."""
    return net.num_examples / np.log(net.num_examples)


def automatic_localization(net: Net) -> float:
    """That of `estimate_llc` when none is given."""
    # The number of parameters alone counts: no layer is drawn for it.
    return default_localization(np.zeros((1, net.num_parameters)))


def measure_reference(
    net: Net, key: jax.Array, *, localization: float | None, num_sweeps: int
) -> dict[str, Any]:
    """The value at the temperature and localization of an estimate; draws have their own seeds."""
    del key
    if localization is None:
        localization = automatic_localization(net)
    centers = [np.asarray(layer, np.float64) for layer in net.layers()]
    strength = 2 * inverse_temperature(net) / net.widths[-1]
    factor = np.linalg.cholesky(second_moments(net))
    found = finite_value(Posterior(centers, factor, strength, localization), num_sweeps)
    return {"reference": found.mean, "reference_sem": found.sem, "reference_ess": found.ess}


def with_references(
    found: Sequence[dict[str, Any]], known: Mapping[tuple[str, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows with the references that are known, by case and key, None for the others."""
    names = ("reference", "reference_sem", "reference_ess")
    return [
        row | {name: known.get((row["case"], row["key"]), {}).get(name) for name in names}
        for row in found
    ]


def time_gradient(net: Net, num_chains: int) -> float:
    """Seconds of one gradient of every chain, compiled; the moments are those of the law."""
    layers = net.layers()
    moments = np.eye(net.widths[0]) * INPUT_RANGE**2 / 3
    gradient = jax.jit(jax.vmap(jax.grad(potential_of(layers, moments))))
    stacked = tuple(jnp.stack([layer] * num_chains) for layer in layers)
    jax.block_until_ready(gradient(stacked))
    start = time.perf_counter()
    for _ in range(3):
        jax.block_until_ready(gradient(stacked))
    return (time.perf_counter() - start) / 3


def parse() -> argparse.Namespace:
    """The command line."""
    parser = runs.parser(__doc__)
    parser.add_argument("--class", dest="label", choices=list(classes()), required=True)
    parser.add_argument("--nets", type=int, default=20)
    parser.add_argument("--only", type=int, nargs="+", metavar="NET", help="only these numbers")
    parser.add_argument("--chains", type=int, default=8)
    parser.add_argument("--draws", type=int, default=None, help="per chain; default automatic")
    parser.add_argument("--localization", type=float, default=None, help="default automatic")
    parser.add_argument("--sweeps", type=int, default=250, help="of the references; 0: none")
    parser.add_argument("--references-only", action="store_true", help="and no estimates")
    parser.add_argument("--time-gradient", action="store_true", help="only time one gradient")
    return parser.parse_args()


def main() -> int:
    """Runs what is missing, then writes the results."""
    options = parse()
    numbers = options.only or range(options.nets)
    nets = [random_net(options.label, number) for number in numbers]
    if options.time_gradient:
        for net in nets:
            seconds = time_gradient(net, options.chains)
            print(f"{net.name}: {net.num_parameters} parameters, {seconds:.4g} s")
        return 0
    if options.references_only:
        return run_references(nets, options)
    if options.sweeps:
        rows.run_cases(open_references(options), nets[options.share], reference_of(options))
    return run_estimates(nets, options)


def reference_of(options: argparse.Namespace) -> Callable:
    """Measures the reference of a net at the localization that is asked for."""
    asked = {"localization": options.localization, "num_sweeps": options.sweeps}
    return functools.partial(measure_reference, **asked)


def open_references(options: argparse.Namespace) -> rows.Journal:
    """The rows of references."""
    settings = reference_of(options).keywords
    return rows.open_journal(f"deep_linear_{options.label}_references", settings, SOURCES)


def run_references(nets: Sequence[Net], options: argparse.Namespace) -> int:
    """References alone, with a page of their own."""
    known = {
        net.name: {
            "parameters": net.num_parameters,
            "bound_lowest": bounds(net.widths, net.layer_ranks).lowest,
        }
        for net in nets
    }
    return runs.run(
        open_references(options),
        nets,
        reference_of(options),
        make_page=functools.partial(
            deep_linear_page.make_references_page,
            label=options.label,
            localization=options.localization,
            known=known,
        ),
        options=options,
    )


def run_estimates(nets: Sequence[Net], options: argparse.Namespace) -> int:
    """Estimates, with a page that shows them beside the references that there are."""
    how = Options(options.chains, options.draws, options.localization)
    known = open_references(options).read()
    return runs.run(
        rows.open_journal(f"deep_linear_{options.label}", how._asdict(), SOURCES),
        nets,
        functools.partial(measure, options=how),
        complete=functools.partial(with_references, known=known),
        make_page=functools.partial(deep_linear_page.make_page, options.label, how.localization),
        options=options,
    )


if __name__ == "__main__":
    sys.exit(main())
