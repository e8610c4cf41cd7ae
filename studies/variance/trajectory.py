"""A training run whose parameters are kept at every step."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from vasso_jax import data
from vasso_jax.train import check
from vasso_jax.train.presets import digits


class Perceptron(nn.Module):
    """Two hidden layers of 64 units; `train` changes nothing."""

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] images -> [B, num_classes] logits."""
        del train
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(64)(x))
        return nn.Dense(self.num_classes)(x)


def train(
    dataset: data.ImageDataset,
    model: nn.Module,
    lr: float,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
) -> tuple[jax.Array, jax.Array, Any]:
    """Trains with the optimizer of configs/digits_vasso.py, without augmentation.

    Args:
        dataset: to train on.
        model: a Flax Linen module called as `(images, train) -> logits`.
        lr: learning rate at the start.
        epochs, batch_size, seed: of the run.

    Returns:
        Parameters [T, P] before each step, rows of each minibatch int32 [T, B], the last state.

    Raises:
        ValueError: a number is out of range, or the run diverged.
    """
    config = digits("vasso")
    config.base.lr = lr
    config.augment = {}
    config.epochs = epochs
    config.batch_size = batch_size
    config.seed = seed
    # One device: a sum over several would be rounded otherwise, and the run another one.
    plan = check(config, model=model, dataset=dataset, devices=jax.devices()[:1])
    experiment = plan.open(dataset)
    program = experiment.program
    state = program.create_state()
    trajectory, rows = [], []
    items = experiment.pipeline.training(0)
    for step, item in zip(range(experiment.total_steps), items, strict=False):
        trajectory.append(np.asarray(ravel_pytree(state.params)[0]))
        rows.append(np.asarray(item.order[step % program.steps_per_epoch]))
        state = program.train_step(state, item)
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(state.params)):
        raise ValueError(f"the run with lr {lr:g} diverged: give smaller --lrs")
    return jnp.asarray(trajectory), jnp.asarray(rows), state


def test_accuracy(dataset: data.ImageDataset, model: nn.Module, params: Any) -> float:
    """Top-1 on the held-out images, in 0..1."""
    images = data.normalize(jnp.asarray(dataset.test.images), dataset.mean, dataset.std)
    logits: Any = model.apply({"params": params}, images, train=False)
    return float((logits.argmax(axis=-1) == dataset.test.labels).mean())
