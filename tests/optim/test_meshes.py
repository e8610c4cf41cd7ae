"""Steps on several devices: meshes of explicit and automatic axes, and inside of shard_map."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.optim.problems import RECIPES, assert_close, batch, params
from vasso_jax import optim

BASE = functools.partial(optax.adam, 0.01)
CASES = {
    **{name: lambda recipe=recipe: recipe(BASE()) for name, recipe in RECIPES.items()},
    **{
        f"{name}, microbatches": lambda recipe=RECIPES[name]: recipe(BASE(), microbatches=2)
        for name in ("sam", "vasso", "looksam", "ssam", "vasso_gsam")
    },
    **{
        f"{name}, reusing": lambda recipe=RECIPES[name]: recipe(BASE(), refresh_every=2)
        for name in ("vasso", "friendly_sam", "ssam")
    },
    **{
        f"{name}, one pass": lambda recipe=RECIPES[name]: recipe(BASE(), refresh="descent")
        for name in ("vasso", "ssam")
    },
    "vasso, window": lambda: optim.vasso(BASE(), 0.1, 0.4, active=(1, 3)),
    "vasso, both": lambda: optim.vasso(BASE(), 0.1, 0.4, active=(1, 3), refresh_every=2),
    "sam, moves": lambda: optim.sam(BASE(), 0.1, ascent_steps=2),
    "random ssam": lambda: optim.ssam(BASE(), 0.1, choice="random", mask_every=2),
    "momentum_sam": lambda: optim.momentum_sam(BASE(), 0.1),
    "wsam": lambda: optim.wsam(BASE(), 0.1, decoupled=False),
    "wsam, decoupled": lambda: optim.wsam(BASE(), 0.1, learning_rate=0.1),
    "lesam": lambda: optim.lesam(BASE(), 0.1),
    "lesam, reusing": lambda: optim.lesam(BASE(), 0.1, refresh_every=2),
    "preconditioned_sam": lambda: optim.preconditioned_sam(BASE(), 0.1),
}
# What these add to the cases that they are made of is how the parts fit one another: the shardings
# of the branches of a condition, say, which are types. They are traced, and not compiled.
COMBINED = (
    *("vasso_asam", "vasso_gsam", "vasso_gsam, microbatches", "looksam, microbatches"),
    *("vasso, microbatches", "friendly_sam, reusing", "ssam, reusing", "lesam, reusing"),
    *("ssam, one pass", "vasso, both", "wsam, decoupled"),
)
QUICK = ("vasso", "vasso, reusing", "looksam", "random ssam", "sam, microbatches")
every_case = pytest.mark.parametrize(
    "case",
    [case if case in QUICK else pytest.param(case, marks=pytest.mark.weekly) for case in CASES],
)


def weights():
    w = params()
    del w["empty"]
    return w


def loss(w, x):
    """As that of the problems, but without a product that would contract a sharded axis."""
    y = jnp.sin(jnp.arange(3, dtype=x.dtype))
    products = (x[:, :, None] * w["w"][None]).sum(1)
    return jnp.mean((w["scale"] * products + w["b"] - y) ** 2)


def part_loss(w, i, x):
    return loss(w, x)


def one_step(tx, w, state, x):
    passes, updates, state = optim.value_and_update(part_loss, tx)(w, state, x)
    return passes, optax.apply_updates(w, updates), state


def plain_step(tx, w, state, x, asked):
    def grad_fn(p, i):
        return jax.grad(loss)(p, x)

    grads = None if asked else grad_fn(w, 0)
    updates, state = tx.update(grads, state, w, grad_fn=grad_fn)
    return None, optax.apply_updates(w, updates), state


def steps(step, tx, w, x, count=3):
    state, step = tx.init(w), jax.jit(functools.partial(step, tx))
    for t in range(count):
        _, w, state = step(w, state, jnp.roll(x, t, 0))
    return w, state


def keeps_the_sharding(case, step, kind):
    """Runs a case on a mesh with sharded parameters, and on one device."""
    tx = CASES[case]()
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        w = jax.device_put(weights(), P())
        w["w"] = jax.device_put(w["w"], P("x"))
        x = jax.device_put(batch(), P(None, "x"))
        if case in COMBINED:
            _, *ends = jax.eval_shape(functools.partial(step, tx), w, tx.init(w), x)
        else:
            ends = steps(step, tx, w, x)
    leaves = [leaf for leaf in jax.tree.leaves(ends) if leaf.shape == (8, 3)]
    assert len(leaves) > 2  # the parameters, and Adam's moments
    if case in COMBINED:
        assert {leaf.sharding.spec for leaf in leaves} == {P("x", None)}
        return
    sharded = NamedSharding(mesh, P("x"))
    assert all(leaf.sharding.is_equivalent_to(sharded, 2) for leaf in leaves)
    expected, _ = steps(step, tx, weights(), batch())
    assert_close(ends[0], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@every_case
def test_a_step_on_explicit_axes_keeps_the_sharding_and_is_that_of_one_device(case):
    keeps_the_sharding(case, one_step, AxisType.Explicit)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "asked"),
    [
        *((case, False) for case in ("vasso", "vasso, reusing", "random ssam")),
        *((case, True) for case in ("vasso, reusing", "looksam", "sam, microbatches")),
    ],
)
def test_so_does_a_step_by_the_plain_convention(case, asked):
    step = functools.partial(plain_step, asked=asked)
    keeps_the_sharding(case, lambda *args: step(*args), AxisType.Explicit)


@pytest.mark.slow
@pytest.mark.parametrize("case", QUICK)
def test_and_a_step_on_automatic_axes(case):
    keeps_the_sharding(case, one_step, AxisType.Auto)


@pytest.mark.slow
@every_case
def test_a_step_inside_of_shard_map_is_that_of_the_whole_batch(case):
    tx, w, mesh = CASES[case](), weights(), jax.make_mesh((8,), ("x",))

    def mean_loss(w, i, x):
        return jax.lax.pmean(loss(w, x), "x")

    def step(w, state, x):
        passes, updates, state = optim.value_and_update(mean_loss, tx)(w, state, x)
        return passes, optax.apply_updates(w, updates), state

    w, state = jax.device_put((w, tx.init(w)), NamedSharding(mesh, P()))
    x = jax.device_put(batch(), NamedSharding(mesh, P("x")))
    specs = {"in_specs": (P(), P(), P("x")), "out_specs": P()}
    many = jax.jit(jax.shard_map(step, mesh=mesh, **specs))
    if case in COMBINED:
        ends = jax.eval_shape(many, w, state, x)[1:]
        assert [(y.shape, y.dtype) for y in jax.tree.leaves(ends)] == [
            (y.shape, y.dtype) for y in jax.tree.leaves((w, state))
        ]
        return
    alone = jax.jit(functools.partial(one_step, tx))
    for _ in range(2):
        passes, moved, new_state = many(w, state, x)
        expected = alone(*jax.device_get((w, state)), batch())
        assert_close((passes, moved), expected[:2], rtol=1e-3, atol=1e-5)
        w, state = moved, new_state


@pytest.mark.parametrize("case", ["vasso, reusing", "looksam", "vasso, window"])
def test_aux_that_differs_between_devices_where_a_pass_is_saved(case):
    tx, w, mesh = CASES[case](), weights(), jax.make_mesh((8,), ("x",))

    def with_rows(w, i, x):
        rows = (x[:, :, None] * w["w"][None]).sum(1)
        return jax.lax.pmean(loss(w, x), "x"), rows

    def step(w, state, x):
        passes, _, _ = optim.value_and_update(with_rows, tx, has_aux=True)(w, state, x)
        return passes.clean.aux

    w, state = jax.device_put((w, tx.init(w)), NamedSharding(mesh, P()))
    x = jax.device_put(batch(), NamedSharding(mesh, P("x")))
    rows = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=(P(), P(), P("x")), out_specs=P("x")))(
        w, state, x
    )
    assert_close(rows, batch() @ weights()["w"], rtol=1e-4, atol=1e-5)
