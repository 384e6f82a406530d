"""Programs that factor matrices on the CPU run one at a time."""

import jax
import jax.numpy as jnp
import pytest

import slt_rl
from slt_rl.data import as_dataset
from slt_rl.threads import default_parts, default_threads, factors_matrices


def solve(matrix):
    return jnp.sum(jnp.linalg.solve(jnp.eye(2) + matrix, jnp.ones(2)))


def in_a_loop(matrix):
    return jax.lax.fori_loop(0, 3, lambda _, x: x + solve(x) * x, matrix)


def in_a_branch(matrix):
    return jax.lax.cond(matrix[0, 0] > 0, solve, jnp.sum, matrix)


@pytest.mark.parametrize(
    "fn",
    [
        solve,
        jax.vmap(solve, axis_size=2, in_axes=None),
        jax.grad(solve),
        jax.jit(in_a_loop),
        in_a_branch,
        jnp.linalg.eigvalsh,
        jnp.linalg.inv,
        jnp.linalg.cholesky,
        jnp.linalg.norm,
        jnp.fft.fft2,
    ],
    ids=["solve", "mapped", "gradient", "loop", "branch", "eigh", "inv", "cholesky", "norm", "fft"],
)
def test_a_factorization_is_found_wherever_it_is(fn):
    assert factors_matrices(fn, jnp.eye(2)) == (fn is not jnp.linalg.norm)


def linear(params, inputs):
    return jnp.sum((inputs @ params) ** 2, axis=1)


def solving(params, inputs):
    return linear(params, inputs) + solve(params)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, 2),
        ({"batch_size": 64}, 1),
        ({"num_chains": 3}, 1),
        ({"data": None}, 1),
        ({"loss_fn": solving}, 1),
        ({"num_chains": 2**22}, 1),
    ],
    ids=["long steps", "short steps", "odd", "exact", "solving", "large"],
)
def test_chains_of_one_estimate_run_in_parts_where_it_pays(changes, parts):
    data = as_dataset(jnp.ones((2**14, 2)))
    call = {"loss_fn": linear, "data": data, "num_chains": 4, "batch_size": None} | changes
    assert default_parts(call.pop("loss_fn"), jnp.ones((2, 2)), call.pop("data"), **call) == parts


class Asked(Exception):
    """For so many threads: nothing is sampled here."""


def make_plain(params):
    return lambda w: jnp.sum((w - params) ** 2)


def make_solving(params):
    return lambda w: jnp.sum((w - params) ** 2) + solve(jnp.diag(w - params) ** 2) - 2


def test_observed_programs_count_and_other_backends_do_not(monkeypatch):
    matrix = jnp.eye(2)
    assert default_threads((jnp.sum, (matrix,))) == 2
    assert default_threads((jnp.sum, (matrix,)), (solve, (matrix,))) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert default_threads((solve, (matrix,))) == 2


@pytest.mark.parametrize(
    ("make_target", "options", "expected"),
    [
        (make_plain, {}, 2),
        (make_solving, {}, 1),
        (make_solving, {"num_threads": 2}, 2),
        (make_plain, {"observe_fn": lambda w: solve(jnp.diag(w))}, 1),
    ],
    ids=["plain", "solving", "asked for", "observed"],
)
def test_a_curve_runs_as_many_chunks_at_a_time(monkeypatch, make_target, options, expected):
    def pool(number):
        raise Asked(number)

    monkeypatch.setattr(slt_rl.llc, "ThreadPoolExecutor", pool)
    with pytest.raises(Asked, match=f"^{expected}$"):
        slt_rl.llc_curve(
            jax.random.key(0), make_target, jnp.ones((2, 2)), nbeta=100.0, chunk_size=1, **options
        )


def test_one_trace_of_a_loss_says_how_it_runs_and_how_precisely(tmp_path):
    looks = []

    def looked(params, inputs):
        looks.append("loss")
        return linear(params, inputs)

    def make_looked(params):
        looks.append("target")
        return lambda w: jnp.sum((w - params) ** 2)

    def estimate():
        looks.clear()
        data = jnp.ones((2**14, 2))  # Enough for parts.
        slt_rl.estimate_llc(key, looked, jnp.ones((2, 2)), data, **options)
        return list(looks)

    def curve(number):
        looks.clear()
        checkpoints, kept = jnp.ones((2, 2)), tmp_path / str(number)
        slt_rl.llc_curve(
            key, make_looked, checkpoints, nbeta=100.0, chunk_size=1, folder=kept, **options
        )
        return list(looks)

    key, options = jax.random.key(0), {"sampler": slt_rl.SGLD(1e-6), "num_draws": 4}
    estimate(), curve(0)
    assert estimate() == []
    # Made for the first checkpoint, and once more within the program that all look at.
    assert curve(1) == ["target", "target"]
