"""The train and evaluation steps on a tiny network: what each pass sees, moves and reports."""

import re
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.train.tiny import LR, RHO, SHAPE, Tiny, as_float, train_once
from vasso_jax.data import EvalBatch
from vasso_jax.optim import sam, vasso
from vasso_jax.train.devices.sharding import make_mesh
from vasso_jax.train.input_pipeline import ready_batch
from vasso_jax.train.steps import step as step_module
from vasso_jax.train.steps.measures import cross_entropy, top_k
from vasso_jax.train.steps.state import create_state
from vasso_jax.train.steps.step import (
    make_eval_step,
    make_train_step,
    read_at_once,
)


def test_a_sam_step_is_the_equations_with_statistics_of_the_clean_pass(batch):
    model, tx = Tiny(), sam(optax.sgd(LR), RHO)
    before, after = train_once(model, tx, batch)

    def forward(params):
        variables = {"params": params, "batch_stats": before.batch_stats}
        return model.apply(variables, as_float(batch[0]), train=True, mutable=["batch_stats"])

    def loss(params):
        logits = forward(params)[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    g = jax.grad(loss)(before.params)
    scale = RHO / optax.tree.norm(g)
    perturbed = jax.tree.map(lambda w, d: w + scale * d, before.params, g)
    expected = jax.tree.map(lambda w, d: w - LR * d, before.params, jax.grad(loss)(perturbed))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after.params, expected
    )
    logits, moved = forward(before.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        after.batch_stats,
        moved["batch_stats"],
    )
    sums = after.metric_sums
    np.testing.assert_allclose(sums["loss"].total, loss(before.params), rtol=1e-5)
    np.testing.assert_allclose(sums["top1"].total, (logits.argmax(1) == batch[1]).mean(), rtol=1e-6)
    np.testing.assert_allclose(sums["perturbation_norm"].total, RHO, rtol=1e-5)
    np.testing.assert_allclose(sums["cosine"].total, 1, rtol=1e-5)
    assert sums["loss"].steps == sums["cosine"].steps == after.step == 1


class Named(nn.Module):
    """Layers that are called as what is reported."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4, name="perturbation_norm")(x.reshape(len(x), -1))
        return nn.Dense(3, name="cosine")(x)


@pytest.mark.slow
def test_layers_of_any_name_do_not_hide_what_is_reported(batch):
    for tx in (sam(optax.adam(LR), RHO), vasso(optax.sgd(LR, momentum=0.9), RHO)):
        _, after = train_once(Named(), tx, batch)
        np.testing.assert_allclose(after.metric_sums["perturbation_norm"].total, RHO, rtol=1e-4)
        np.testing.assert_allclose(after.metric_sums["cosine"].total, 1, rtol=1e-4)
    _, after = train_once(Named(), optax.sgd(LR, momentum=0.9), batch)
    assert set(after.metric_sums) == {"loss", "top1", "top5"}


def test_several_perturbations_are_not_reported_as_one(batch):
    parts = {"bn": sam(optax.sgd(LR), RHO), "head": vasso(optax.sgd(LR), 0.1)}
    tx = optax.partition(parts, {"bn": "bn", "head": "head"})
    before, after = train_once(Tiny(), tx, batch)
    assert set(after.metric_sums) == {"loss", "top1", "top5"}
    for layer in parts:
        moved = jax.tree.map(lambda a, b: np.any(a != b), after.params, before.params)[layer]
        assert any(jax.tree.leaves(moved))


@pytest.mark.slow
def test_a_step_without_clean_pass_reports_nothing_and_leaves_the_statistics(batch):
    model, tx = Tiny(), vasso(optax.sgd(LR), RHO, refresh_every=2)
    mesh = make_mesh()
    step = make_train_step(
        model,
        tx,
        take_batch=ready_batch,
        augment=lambda key, images: as_float(images),
        label_smoothing=0.0,
        batch_stats="clean",
        mesh=mesh,
    )
    first = step(create_state(model, tx, SHAPE, 3, 0), batch)
    kept = jax.tree.map(np.array, first)
    second = step(first, batch)
    jax.tree.map(np.testing.assert_array_equal, second.batch_stats, kept.batch_stats)
    for name in ("loss", "top1", "cosine"):
        assert second.metric_sums[name] == kept.metric_sums[name]
    np.testing.assert_allclose(second.metric_sums["perturbation_norm"].total, 2 * RHO, rtol=1e-5)
    assert np.any(second.params["head"]["kernel"] != kept.params["head"]["kernel"])
    assert second.metric_sums["loss"].steps == 1
    kept = jax.tree.map(np.array, second)
    third = step(second, batch)
    assert third.metric_sums["loss"].steps == 2
    assert np.any(third.batch_stats["bn"]["mean"] != kept.batch_stats["bn"]["mean"])


@pytest.mark.slow
@pytest.mark.parametrize("which", ["clean", "both"])
def test_a_step_of_one_evaluation_reports_it_and_moves_the_statistics(batch, which):
    # Two steps: the first is at w, as there is no direction yet.
    model, tx = Tiny(), sam(optax.sgd(LR), RHO, refresh="descent")
    mesh = make_mesh()
    step = make_train_step(
        model,
        tx,
        take_batch=ready_batch,
        augment=lambda key, images: as_float(images),
        label_smoothing=0.0,
        batch_stats=which,
        mesh=mesh,
    )

    def loss(params, running):
        logits, moved = model.apply(
            {"params": params, "batch_stats": running},
            as_float(batch[0]),
            train=True,
            mutable=["batch_stats"],
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch[1])
        return losses.mean(), moved["batch_stats"]

    state, total, eps = create_state(model, tx, SHAPE, 3, 0), 0.0, None
    params, running = state.params, state.batch_stats
    for t in range(2):
        point = params if eps is None else optax.apply_updates(params, eps)
        (value, running), g = jax.value_and_grad(loss, has_aux=True)(point, running)
        total, eps = total + value, optax.tree.scale(RHO / optax.tree.norm(g), g)
        params = optax.apply_updates(params, optax.tree.scale(-LR, g))
        state = step(state, batch)
        np.testing.assert_allclose(state.metric_sums["loss"].total, total, rtol=1e-5)
        assert state.metric_sums["loss"].steps == t + 1
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
            (state.params, state.batch_stats),
            (params, running),
        )


@pytest.mark.slow
def test_both_passes_see_the_same_augmentation_and_dropout(batch):
    # With rho 0 the two passes agree exactly if, and only if, all that is random agrees.
    def augment(key, images):
        return as_float(images) + jax.random.normal(key, images.shape)

    ends = [
        train_once(Tiny(dropout=0.5), tx, batch, augment=augment)[1].params
        for tx in (sam(optax.sgd(LR), 0.0), optax.with_extra_args_support(optax.sgd(LR)))
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *ends)


def test_augmentation_differs_from_step_to_step(batch):
    mesh, model = make_mesh(), Tiny()
    tx = optax.with_extra_args_support(optax.sgd(0.0))
    step = make_train_step(
        model,
        tx,
        take_batch=ready_batch,
        augment=lambda key, images: as_float(images) + jax.random.normal(key, images.shape),
        label_smoothing=0.0,
        batch_stats="clean",
        mesh=mesh,
    )
    state = step(create_state(model, tx, SHAPE, 3, 0), batch)
    first = float(state.metric_sums["loss"].total)
    second = float(step(state, batch).metric_sums["loss"].total) - first
    assert abs(first - second) > 1e-3


def test_evaluation_sums_over_valid_examples_only(batch):
    mesh, model = make_mesh(), Tiny()
    state = create_state(model, optax.sgd(0.1), SHAPE, 3, 0)
    valid = np.arange(8) < 5
    step = make_eval_step(model, take_batch=ready_batch, normalize=as_float, mesh=mesh)
    sums = step(state, EvalBatch(*batch, valid))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = model.apply(variables, as_float(batch[0]), train=False)[:5]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch[1][:5])
    assert sums["examples"] == 5
    np.testing.assert_allclose(sums["loss"], losses.sum(), rtol=1e-5)
    assert sums["top1"] == (logits.argmax(1) == batch[1][:5]).sum()
    assert sums["top5"] == 5


def test_label_smoothing_is_the_cross_entropy_with_the_smoothed_target():
    logits = jax.random.normal(jax.random.key(0), (6, 10))
    labels = jnp.arange(6)
    target = optax.smooth_labels(jax.nn.one_hot(labels, 10), 0.1)
    np.testing.assert_allclose(
        cross_entropy(logits, labels, 0.1),
        optax.softmax_cross_entropy(logits, target),
        rtol=1e-5,
    )


def test_top_k_agrees_with_sorting_and_breaks_ties_like_argmax():
    logits = jnp.array([[3.0, 2.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, jnp.nan, 0.0, 0.0]])
    for label in range(4):
        labels = jnp.full(3, label)
        for k in (1, 2, 5):
            expected = [label < k, label < k, False if label == 1 else None]
            actual = top_k(logits, labels, k)
            assert bool(actual[0]) == expected[0]
            assert bool(actual[1]) == expected[1]
            if k < 4 and label == 1:
                assert not actual[2]


def test_what_is_read_at_once_is_the_same():
    tree = {
        "scale": jnp.arange(3.0),
        "bias": jnp.ones(5),
        "count": jnp.int32(7),
        "counts": jnp.arange(4),
        "kernel": jnp.arange(6.0).reshape(2, 3),
        "long": jnp.arange(5000.0),
    }
    jax.tree.map(np.testing.assert_array_equal, jax.jit(read_at_once)(tree), tree)
    assert jax.tree.map(jnp.shape, read_at_once(tree)) == jax.tree.map(jnp.shape, tree)
    # All but the long one, a group for each dtype.
    program = jax.jit(read_at_once).lower(tree).as_text()
    joined = re.findall(r"stablehlo.optimization_barrier .* : (tensor<\w+>)", program)
    assert sorted(joined) == ["tensor<14xf32>", "tensor<5xi32>"]
    assert read_at_once({}) == {}


@pytest.mark.slow
def test_reading_at_once_is_for_gpus_and_changes_no_number(batch, monkeypatch):
    read = []

    def counted(tree):
        read.append(tree)
        return read_at_once(tree)

    def after_a_step(**options):
        tx = vasso(optax.sgd(LR), RHO, theta=0.4)
        return jax.device_get(train_once(Tiny(), tx, batch, **options)[1])

    monkeypatch.setattr(step_module, "read_at_once", counted)
    usual = after_a_step()
    assert not read
    monkeypatch.setattr(step_module, "_copies_what_is_read_late", lambda mesh: True)
    after_a_step(batch_stats_over="device")
    assert not read
    found = after_a_step()
    assert len(read) == 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), found, usual)


@pytest.mark.parametrize(("platform", "fsdp"), [("gpu", 1), ("gpu", 2), ("cpu", 1), ("tpu", 1)])
def test_only_gpus_that_hold_all_parameters_copy(platform, fsdp):
    devices = np.array([SimpleNamespace(platform=platform)] * fsdp)
    mesh = SimpleNamespace(devices=devices, shape={"data": 1, "fsdp": fsdp})
    assert step_module._copies_what_is_read_late(mesh) == ((platform, fsdp) == ("gpu", 1))
