"""Products with curvature matrices against the matrices themselves."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from tests.sharpness import problems
from tests.sharpness.problems import flat
from vasso_jax.sharpness import fisher, gauss_newton, hessian, mean_loss, sample_labels

CASES = {
    "perceptron": (problems.perceptron, problems.of_perceptron),
    "batch statistics": (problems.network, problems.of_network),
    "running statistics": (problems.running, problems.of_network),
}
slow = pytest.mark.slow
every_case = pytest.mark.parametrize(
    "case", ["perceptron", "batch statistics", pytest.param("running statistics", marks=slow)]
)
two_cases = pytest.mark.parametrize(
    "case", ["perceptron", pytest.param("batch statistics", marks=slow)]
)


def make(case):
    outputs, of = CASES[case]
    params, data = of()
    return outputs, params, data, mean_loss(outputs, problems.cross_entropy, data, 4)


def vector(params, seed=7):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), params)


def assert_is(operator, matrix, params):
    v = vector(params)
    np.testing.assert_allclose(flat(operator.product(v)), matrix @ flat(v), rtol=1e-9, atol=1e-12)
    assert operator.size == len(matrix)


@functools.cache
def dense(case):
    """The Hessian of the mean."""
    outputs, params, data, _ = make(case)
    return problems.formed(problems.mean(outputs, data), params)


@every_case
def test_the_hessian_is_that_of_the_mean(case, x64):
    _, params, _, objective = make(case)
    assert_is(hessian(objective, params), dense(case), params)


@functools.cache
def jacobians(case):
    """J [E, C, P] and the softmax of the outputs [E, C], batch by batch."""
    outputs, params, data, _ = make(case)
    start, unravel = ravel_pytree(params)

    @jax.jit
    def of_batch(part):
        return jax.jacrev(lambda x: outputs(unravel(x), part))(start), outputs(params, part)

    found = [of_batch(part) for part in problems.batches(data)]
    j, at = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return j, np.exp(at) / np.exp(at).sum(axis=1, keepdims=True)


@two_cases
def test_the_gauss_newton_matrix_is_the_mean_of_j_h_j(case, x64):
    _, params, _, objective = make(case)
    j, p = jacobians(case)
    h = np.eye(p.shape[1]) * p[:, None] - p[:, :, None] * p[:, None]
    matrix = np.einsum("bcp,bcd,bdq->pq", j, h, j) / len(p)
    assert_is(gauss_newton(objective, params), matrix, params)


def fisher_matrix(case, labels):
    """The mean of outer products of J^T (softmax - target)."""
    j, p = jacobians(case)
    gradients = np.einsum("bcp,bc->bp", j, p - np.eye(p.shape[1])[labels])
    return gradients.T @ gradients / len(gradients)


@two_cases
def test_the_empirical_fisher_matrix_is_the_mean_of_outer_products(case, x64):
    _, params, data, objective = make(case)
    assert_is(fisher(objective, params), fisher_matrix(case, data["labels"]), params)


def test_the_fisher_matrix_of_given_targets_is_that_of_their_gradients(x64):
    _, params, data, objective = make("perceptron")

    def zeros(key, outputs, batch):
        return batch | {"labels": jnp.zeros_like(batch["labels"])}

    operator = fisher(objective, params, jax.random.key(0), sample=zeros)
    assert_is(operator, fisher_matrix("perceptron", 0 * data["labels"]), params)


def test_over_keys_the_sampled_fisher_matrix_is_the_gauss_newton_matrix(x64):
    _, params, _, objective = make("perceptron")
    v = vector(params)
    # Keys of an operator are among its batches: it is made once, and given other ones.
    operator = fisher(objective, params, jax.random.key(0))
    first, again = (flat(operator.product(v)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    batches = operator.objective.batches[0]

    def curvature(seed):
        keys = jax.random.split(jax.random.key(seed), 3)
        sampled = operator._replace(objective=operator.objective._replace(batches=(batches, keys)))
        return flat(v) @ flat(sampled.product(v))

    found = np.array([curvature(seed) for seed in range(300)])
    np.testing.assert_allclose(found[0], flat(v) @ first)
    exact = flat(v) @ flat(gauss_newton(objective, params).product(v))
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - exact) < 3 * error
    assert error < 0.05 * exact


class Batch(NamedTuple):
    images: jax.Array
    labels: jax.Array


def test_labels_are_drawn_from_the_softmax_into_the_batch():
    logits = jnp.log(jnp.array([[0.2, 0.5, 0.3]] * 4000))
    labels = np.zeros(4000, np.int32)
    in_dict = sample_labels(jax.random.key(0), logits, {"x": logits, "labels": labels})
    in_tuple = sample_labels(jax.random.key(0), logits, Batch(logits, labels))
    assert in_tuple.images is logits
    assert in_dict["labels"].dtype == np.int32
    np.testing.assert_array_equal(in_dict["labels"], in_tuple.labels)
    shares = np.bincount(in_dict["labels"]) / 4000
    np.testing.assert_allclose(shares, [0.2, 0.5, 0.3], atol=0.03)
    for batch in ({"x": logits}, Batch(logits, logits), (logits, labels)):
        with pytest.raises(ValueError, match="pass `sample`"):
            sample_labels(jax.random.key(0), logits, batch)


def test_a_mask_leaves_the_block_of_what_it_chooses(x64):
    _, params, _, objective = make("perceptron")
    mask = {"hidden": {"kernel": True, "bias": False}, "head": {"kernel": False, "bias": True}}
    chosen = jax.tree.map(lambda x, m: np.full(x.shape, m), params, mask)
    part, matrix = flat(chosen), dense("perceptron")
    operator = hessian(objective, params, mask)
    assert operator.like["hidden"]["bias"] is operator.like["head"]["kernel"] is None
    v = jax.tree.map(lambda x, m: x if m else None, vector(params), mask)
    assert_is(operator, matrix[part][:, part], v)


def test_half_of_the_data_twice_is_the_data(x64):
    _, params, data, objective = make("perceptron")
    halves = jax.tree.map(lambda x: np.concatenate([x, x]), data)
    twice = mean_loss(problems.perceptron, problems.cross_entropy, halves, 4)
    v = vector(params)
    once, twice = (flat(fisher(of, params).product(v)) for of in (objective, twice))
    np.testing.assert_allclose(once, twice, rtol=1e-9, atol=1e-12)


def test_one_program_serves_other_data_and_parameters():
    traces = []

    def counted(params, batch):
        traces.append(1)
        return problems.perceptron(params, batch)

    products = []
    for seed in range(3):
        params, data = problems.of_perceptron(seed=seed)
        objective = mean_loss(counted, problems.cross_entropy, data, 4)
        products.append(flat(hessian(objective, params).product(vector(params, 7))))
        if not seed:
            first = len(traces)
    assert len(traces) == first
    assert len({float(p[0]) for p in products}) == 3


def sampled_fisher(objective, params):
    return fisher(objective, params, jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "make_operator",
    [hessian, *(pytest.param(f, marks=slow) for f in (gauss_newton, sampled_fisher))],
)
@pytest.mark.parametrize(
    ("kind", "spread"),
    [
        (AxisType.Explicit, True),
        pytest.param(AxisType.Auto, True, marks=slow),
        pytest.param(AxisType.Explicit, False, marks=slow),
        pytest.param(AxisType.Auto, False, marks=slow),
    ],
)
def test_eight_devices_give_the_products_of_one(kind, spread, make_operator):
    objective, params = problems.for_several_devices()
    split, shared, mesh = problems.on_all_devices(objective, params, kind, spread)
    v = vector(params)
    expected = flat(make_operator(objective, params).product(v))
    with jax.set_mesh(mesh):
        operator = make_operator(split, shared)
        v = jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), v, operator.like)
        found = operator.product(v)
    np.testing.assert_allclose(flat(found), expected, rtol=1e-4, atol=1e-6)
    if kind == AxisType.Explicit:
        wanted = P("x", None) if spread else P(None, None)
        assert found["hidden"]["kernel"].sharding.spec == wanted


@pytest.mark.parametrize("make_operator", [hessian, gauss_newton, fisher])
def test_what_is_not_finite_is_refused(make_operator):
    _, params, data, objective = make("perceptron")
    params["hidden"]["bias"][2] = np.nan
    with pytest.raises(ValueError, match=r"\['hidden'\]\['bias'\] are not finite"):
        make_operator(objective, params)
    params["hidden"]["bias"][2] = 0
    data["x"][0, 0] = np.nan
    with pytest.raises(ValueError, match="the mean loss is nan"):
        make_operator(mean_loss(problems.perceptron, problems.cross_entropy, data, 4), params)


def test_wrong_arguments_are_refused():
    _, params, _, objective = make("perceptron")
    masks = jax.tree.map(lambda x: False, params)
    for mask, message in (
        (masks, "chooses no parameters"),
        (masks["head"], "structure of the parameters"),
        (jax.tree.map(lambda x: 1, params), "must consist of bools"),
    ):
        with pytest.raises(ValueError, match=message):
            hessian(objective, params, mask)
    half = jax.tree.map(lambda x: x.astype(jnp.float16), params)
    with pytest.raises(ValueError, match="float32 or float64, got float16"):
        hessian(objective, half)
    with pytest.raises(ValueError, match="without a key"):
        fisher(objective, params, sample=functools.partial(sample_labels))
