"""A tiny network, and one train step of it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vasso_jax.train.devices.sharding import make_mesh
from vasso_jax.train.input_pipeline import ready_batch
from vasso_jax.train.steps.state import create_state
from vasso_jax.train.steps.step import make_train_step

SHAPE = (4, 4, 1)
RHO, LR = 0.5, 0.1


class Tiny(nn.Module):
    """A BatchNorm over the pixels, dropout, and a linear layer."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, train):
        x = x.reshape(len(x), -1)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5, name="bn")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(3, name="head")(x)


def as_float(images):
    return images.astype(jnp.float32) / 255


def train_once(model, tx, batch, **options):
    """The state before and after one step; `options` as for `make_train_step`."""
    mesh = make_mesh()
    step = make_train_step(
        model,
        tx,
        take_batch=ready_batch,
        augment=options.pop("augment", lambda key, images: as_float(images)),
        label_smoothing=options.pop("label_smoothing", 0.0),
        batch_stats=options.pop("batch_stats", "clean"),
        mesh=mesh,
        **options,
    )
    before = create_state(model, tx, SHAPE, 3, 0)
    kept = jax.tree.map(np.array, before)
    return kept, step(before, batch)
