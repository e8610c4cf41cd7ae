"""Train steps on mixed batches, by hand and in any grouping of the batch."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.models.compilation import quick_compilation
from tests.train.own_parts import Linear, config, halves
from tests.train.tiny import LR, RHO, as_float
from vasso_jax import data
from vasso_jax.data import Augmentation, Batch, mix
from vasso_jax.optim import sam
from vasso_jax.train import check
from vasso_jax.train.devices.sharding import batch_sharding, make_mesh
from vasso_jax.train.input_pipeline import ready_batch
from vasso_jax.train.rngs import stream_key
from vasso_jax.train.steps.state import create_state, state_formats
from vasso_jax.train.steps.step import make_train_step

pytestmark = pytest.mark.slow

SHAPE, SIZE, CLASSES, SMOOTHING, STEPS = (8, 8, 2), 16, 7, 0.1, 2
MIXING = Augmentation(mixup_alpha=1.0, cutmix_alpha=1.0)


class Plain(nn.Module):
    """Without BatchNorm, so that groups of the batch change only rounding."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.Dense(32)(x.reshape(len(x), -1)))
        return nn.Dense(CLASSES)(x)


def a_batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (SIZE, *SHAPE)).astype(np.uint8)
    return Batch(images, rng.integers(0, CLASSES, SIZE).astype(np.int32))


@jax.jit
def step_by_hand(params, step):
    """The parameters after a step of SAM, its loss and its top-1."""
    key = jax.random.split(jax.random.fold_in(stream_key(0, "step"), step), 3)[2]
    images, labels = a_batch()
    pixels, targets = mix(key, as_float(images), jnp.asarray(labels), options=MIXING)
    own, partners = (jax.nn.one_hot(x, CLASSES) for x in (labels, np.roll(labels, 1)))
    wanted = targets.share[:, None] * own + (1 - targets.share[:, None]) * partners

    def loss(params):
        logits = Plain().apply({"params": params}, pixels, train=True)
        smoothed = optax.smooth_labels(wanted, SMOOTHING)
        return optax.softmax_cross_entropy(logits, smoothed).mean(), logits

    (clean, logits), g = jax.value_and_grad(loss, has_aux=True)(params)
    scale = RHO / optax.tree.norm(g)
    perturbed = jax.tree.map(lambda w, d: w + scale * d, params, g)
    g_at, _ = jax.grad(loss, has_aux=True)(perturbed)
    top1 = wanted[jnp.arange(SIZE), logits.argmax(1)].mean()
    return jax.tree.map(lambda w, d: w - LR * d, params, g_at), clean, top1


@pytest.mark.parametrize(
    ("devices", "fsdp", "options"),
    [(1, 1, {}), (8, 2, {"microbatches": 2, "batch_stats_over": "device"})],
    ids=["whole", "in groups"],
)
def test_all_passes_are_of_the_same_mixed_batch_in_any_grouping(devices, fsdp, options):
    mesh = make_mesh(fsdp, jax.devices()[:devices])
    model, tx = Plain(), sam(optax.sgd(LR), RHO)
    create = functools.partial(create_state, model, tx, SHAPE, CLASSES, 0)
    formats = state_formats(jax.eval_shape(create), mesh)
    step = make_train_step(
        model,
        tx,
        take_batch=ready_batch,
        augment=lambda key, images: as_float(images),
        mix=functools.partial(mix, options=MIXING),
        label_smoothing=SMOOTHING,
        batch_stats="clean",
        mesh=mesh,
        formats=formats,
        **options,
    )
    batch = jax.device_put(a_batch(), batch_sharding(mesh))
    with quick_compilation():
        state = jax.jit(create, out_shardings=formats)()
        params, losses, top1s = jax.device_get(state.params), [], []
        for i in range(STEPS):
            state = jax.block_until_ready(step(state, batch))
            params, *measured = step_by_hand(params, i)
            for kept, number in zip((losses, top1s), measured, strict=True):
                kept.append(float(number))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.params, params
    )
    np.testing.assert_allclose(state.metric_sums["loss"].total, sum(losses), rtol=1e-5)
    np.testing.assert_allclose(state.metric_sums["top1"].total, sum(top1s), rtol=1e-5)


def test_a_config_says_whether_batches_are_mixed(monkeypatch):
    seen = []

    def recorded(*arguments, options):
        seen.append(options.mixup_alpha)
        return mix(*arguments, options=options)

    monkeypatch.setattr(data, "mix", recorded)
    for alpha in (0.0, 0.3):
        made = config(augment={"mixup_alpha": alpha})
        experiment = check(made, model=Linear(2), dataset=halves()).open(halves())
        item = next(iter(experiment.pipeline.training(0)))
        program = experiment.program
        jax.eval_shape(program.train_step, program.abstract_state, item)
    assert seen == [0.3]


def test_what_does_not_fit_the_data_is_refused():
    made = config(augment={"cutmix_alpha": 1.0}, batch_size=1)
    one = {"devices": jax.devices()[:1], "model": Linear(2), "dataset": halves()}
    with pytest.raises(ValueError, match="no effect on a batch of one image"):
        check(made, **one).open(halves())
