"""What is known of the learning coefficient of a deep linear network at any of its parameters.

Up to changes of basis a tuple of layers is determined by the ranks `r_ij` of its partial products
`W_j ... W_(i+1)`, or by how often each interval `[i, j]` occurs: `n_ij` basis vectors that are born
at layer `i` and die after layer `j`. All bounds are functions of these numbers.

References:
    Aoyagi, Neural Networks 172 (2024) 106132, for the least value over all true parameters.
    Abeasis and Del Fra, "Degenerations for the representations of a quiver of type A_m", Journal of
    Algebra 93 (1985): one orbit lies in the closure of another if none of its ranks is larger.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from toy_models.deep_linear import deep_linear_llc


class Bounds(NamedTuple):
    """Bounds of a local learning coefficient.

    Attributes:
        lowest: Aoyagi's value, the least over all parameters of the same product.
        half_rank: Half the rank of the Hessian, a lower bound at this parameter.
        half_codimension: Half the codimension of a component of the zero set that contains the
            parameter, an upper bound: points of this component are arbitrarily near, and at a
            general one of them the zero set is smooth.
    """

    lowest: float
    half_rank: float
    half_codimension: float

    @property
    def lower(self) -> float:
        """The larger lower bound."""
        return max(self.lowest, self.half_rank)

    @property
    def exact(self) -> float | None:
        """The local value, where the bounds meet."""
        return self.lower if self.lower == self.half_codimension else None


def bounds(widths: Sequence[int], layer_ranks: Sequence[int]) -> Bounds:
    """Bounds of the local learning coefficient of `|W_L ... W_1 - P|^2` at random layers.

    Args:
        widths: `(H_0, ..., H_L)` from input to output.
        layer_ranks: Rank of each layer; layers are otherwise in general position.
    """
    ranks = partial_ranks(widths, layer_ranks)
    lowest, _ = deep_linear_llc(widths, int(ranks[0, -1]))
    half_rank = hessian_rank(ranks) / 2
    upper = least_codimension(ranks, goal=int(2 * max(lowest, half_rank))) / 2
    return Bounds(lowest, half_rank, upper)


def partial_ranks(widths: Sequence[int], layer_ranks: Sequence[int]) -> np.ndarray:
    """Ranks of the partial products of layers in general position: the least rank among them.

    Returns:
        `[L + 1, L + 1]`, upper triangular, with the widths on the diagonal.
    """
    ranks = np.diag(np.asarray(widths, int))
    for i in range(len(layer_ranks)):
        ranks[i, i + 1 :] = np.minimum.accumulate(layer_ranks[i:])
    return ranks


def hessian_rank(ranks: np.ndarray) -> int:
    """Rank of the Hessian: dimension of the span of `W_L..W_(l+1) D W_(l-1)..W_1` over `l`, `D`.

    Images of the left factors grow with `l`, row spaces of the right ones shrink: a staircase.
    """
    number = len(ranks)
    left = [0, *(int(ranks[layer, -1]) for layer in range(1, number))]
    right = [int(ranks[0, layer]) for layer in range(number - 1)]
    return sum((left[i + 1] - left[i]) * right[i] for i in range(number - 1))


def intervals(ranks: np.ndarray) -> np.ndarray:
    """How often each interval occurs, `n_ij = r_ij - r_(i-1)j - r_i(j+1) + r_(i-1)(j+1)`."""
    number = len(ranks)
    padded = np.zeros((number + 1, number + 1), int)
    padded[1:, :-1] = np.triu(ranks)
    return np.triu(padded[1:, :-1] - padded[:-1, :-1] - padded[1:, 1:] + padded[:-1, 1:])


def extensions(pairs: np.ndarray) -> np.ndarray:
    """Dimension of the extensions of intervals, `[interval, interval]`, 0 or 1.

    `[i, j]` and `[k, l]` have one if `i < k <= j + 1 <= l`; it merges them into `[i, l]` and
    `[k, j]`, where an interval `[j + 1, j]` is none.

    Args:
        pairs: `[interval, 2]`, the first and last index of each.
    """
    start, end = pairs[:, :1], pairs[:, 1:]
    next_start, next_end = pairs[:, 0], pairs[:, 1]
    return ((start < next_start) & (next_start <= end + 1) & (end + 1 <= next_end)).astype(int)


def least_codimension(ranks: np.ndarray, *, goal: int = 0, num_tries: int = 30) -> int:
    """Codimension of a component of the fiber of the product that contains the parameters.

    The orbit of the intervals `n` has the codimension `n' E n` with `E` from `extensions`. Fixing
    the product instead of its rank `r` adds `r (H_0 + H_L - r)`. Orbits that contain the point in
    their closure are reached by merging intervals; a merge into the whole chain would raise `r`.
    The descent takes the merge that gains most, a few copies at a time, and later descents prefer
    some merges at random. Every result is the codimension of such an orbit, and so an upper bound.

    Args:
        ranks: From `partial_ranks`.
        goal: A lower bound; the search ends when it is reached.
        num_tries: Number of descents.
    """
    rank, last = int(ranks[0, -1]), len(ranks) - 1
    grid = intervals(ranks)
    pairs = np.argwhere(np.triu(np.ones_like(grid)))
    counts = grid[pairs[:, 0], pairs[:, 1]]
    form = extensions(pairs)
    index = {(int(i), int(j)): number for number, (i, j) in enumerate(pairs)}
    merges = []
    for first, second in np.argwhere(form):
        (i, j), (k, l) = pairs[first], pairs[second]  # noqa: E741
        if (i, l) != (0, last):
            merge = np.zeros(len(pairs), int)
            np.add.at(merge, [first, second, index[int(i), int(l)]], [-1, -1, 1])
            merge[index.get((int(k), int(j)), 0)] += int(k <= j)
            merges.append(merge)
    shift = rank * int(ranks[0, 0] + ranks[-1, -1] - rank)
    return shift + _search(
        counts, form, np.reshape(merges, (-1, len(pairs))), goal - shift, num_tries
    )


def _search(counts, form, merges, goal: int, num_tries: int) -> int:
    """The least codimension that several descents find."""
    generator = np.random.default_rng(0)
    least = int(counts @ form @ counts)
    slopes = merges @ (form + form.T)
    for number in range(num_tries):
        favor = np.exp(generator.normal(0, 1 if number else 0, len(merges)))
        reached = _descend(counts, slopes, merges, favor)
        least = min(least, int(reached @ form @ reached))
        if least <= goal:
            break
    return least


def _descend(counts, slopes: np.ndarray, merges: np.ndarray, favor: np.ndarray) -> np.ndarray:
    """Applies the merge of largest favored gain again and again; returns the last counts.

    `slopes @ counts` is what each merge adds to the codimension, to first order.
    """
    taken = np.minimum(merges, 0)
    while True:
        # How many copies each merge could take.
        most = np.where(taken < 0, counts // np.maximum(-taken, 1), np.iinfo(int).max)
        most = most.min(axis=1, initial=np.iinfo(int).max)
        gains = -(slopes @ counts)
        gains = np.where(most > 0, favor * gains, -np.inf)
        if not len(merges) or most.max() <= 0:
            return counts
        best = int(np.argmax(gains))
        counts = counts + max(1, int(most[best]) // 64) * merges[best]
