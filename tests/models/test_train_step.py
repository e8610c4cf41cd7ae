"""The smallest member of every family through one train step of the trainer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.models.compilation import quick_compilation
from vasso_jax.data import Batch
from vasso_jax.models import VGG, PyramidNet, ResNet, ViT, WideResNet
from vasso_jax.optim import vasso
from vasso_jax.train.devices.sharding import make_mesh
from vasso_jax.train.input_pipeline import ready_batch
from vasso_jax.train.steps.state import create_state
from vasso_jax.train.steps.step import make_train_step

pytestmark = pytest.mark.slow

FAMILIES = {
    "resnet": ResNet((1, 1), 10, bottleneck=True, imagenet=True, dtype=jnp.bfloat16),
    "wrn": WideResNet(10, 1, 10, dtype=jnp.bfloat16),
    "vgg": VGG((1, 1), 10, hidden=32, dtype=jnp.bfloat16),
    "pyramidnet": PyramidNet(8, 12, 10, dtype=jnp.bfloat16),
    "vit": ViT(4, 16, depth=1, heads=2, num_classes=10, dtype=jnp.bfloat16),
}


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=[] if name in ("wrn", "vit") else pytest.mark.weekly)
        for name in FAMILIES
    ],
)
def test_a_bfloat16_step_with_vasso(family):
    model, tx = FAMILIES[family], vasso(optax.sgd(0.1), rho=0.05, theta=0.2)
    step = make_train_step(
        model,
        tx,
        take_batch=ready_batch,
        augment=lambda key, images: images.astype(jnp.float32) / 255,
        label_smoothing=0.1,
        batch_stats="clean",
        mesh=make_mesh(devices=jax.devices()[:1]),
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 8, 8, 3)).astype(np.uint8)
    with quick_compilation():
        state = jax.jit(lambda: create_state(model, tx, (8, 8, 3), 10, 0))()
        before = jax.tree.map(np.array, state)
        after = step(state, Batch(images, rng.integers(0, 10, 8)))

    assert np.isfinite(after.metric_sums["loss"].total)
    kept = (after.params, after.batch_stats, before.params)
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {jnp.dtype("float32")}
    assert bool(after.batch_stats) == (family != "vit")
    moved = jax.tree.map(lambda old, new: not np.array_equal(old, new), before, after)
    for path, has_moved in jax.tree.leaves_with_path((moved.params, moved.batch_stats)):
        # A bias in front of BatchNorm, and that of the keys, have no gradient but rounding's.
        assert has_moved or path[-1].key == "bias", path
