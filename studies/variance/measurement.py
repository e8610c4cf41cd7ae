"""The errors of directions along training runs; `__main__.py` has the protocol."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from benchmarks.harness.machine import describe
from studies.variance.summary import PHASES, curves, digits, in_phase
from studies.variance.trajectory import Perceptron, test_accuracy, train
from vasso_jax import data, optim
from vasso_jax.sharpness import DirectionErrors, measure_directions

THETAS = (0.9, 0.4, 0.2)
DIRECTIONS = {"SAM": optax.identity()} | {
    f"VaSSO, theta {theta:g}": optim.suppress_variance(theta) for theta in THETAS
}
AT_REST = dict(zip(DIRECTIONS, [theta / (2 - theta) for theta in (1.0, *THETAS)], strict=True))


def measure(
    lrs: Sequence[float], *, epochs: int, batch_size: int, streams: int, seed: int
) -> dict[str, Any]:
    """The content of the JSON file; prints one line per learning rate.

    Args:
        lrs: learning rates, one run each.
        epochs, batch_size, seed: of each run.
        streams: how many of each sampling.

    Raises:
        ValueError: a number is out of range, or a run diverged.
    """
    if min(epochs, batch_size) < 1 or streams < 2:
        raise ValueError(
            "needs --epochs >= 1, --batch_size >= 1 and --streams >= 2, got "
            f"{epochs}, {batch_size} and {streams}"
        )
    dataset = data.load("digits")
    assert isinstance(dataset, data.ImageDataset)
    if epochs * (dataset.num_train // batch_size) < 10:
        raise ValueError(
            f"{epochs} epochs of {dataset.num_train} images in batches of {batch_size} are fewer "
            "than ten steps: give more --epochs or a smaller --batch_size"
        )
    model = Perceptron(len(dataset.class_names))
    runs = []
    for lr in lrs:
        trajectory, own, state = train(
            dataset, model, lr, epochs=epochs, batch_size=batch_size, seed=seed
        )
        rows = draw(own, dataset.num_train, streams, seed)
        errors = errors_along(dataset, model, trajectory, rows, state.params)
        run = {
            "lr": lr,
            "test_top1": digits(test_accuracy(dataset, model, state.params)),
            "phases": {name: in_phase(errors, begin) for name, begin in PHASES.items()},
            "curves": curves(errors["independent"]),
        }
        runs.append(run)
        ratios = {
            name: {
                direction: found["over_sam"] for direction, found in phase["independent"].items()
            }
            for name, phase in run["phases"].items()
        }
        print(json.dumps({"lr": lr, "test_top1": run["test_top1"], "mse_over_sam": ratios}))
    settings = {
        "dataset": "digits",
        "num_train": dataset.num_train,
        "network": "perceptron 64-64-64-10",
        "parameters": trajectory.shape[1],
        "config": "configs/digits_vasso.py",
        "epochs": epochs,
        "batch_size": batch_size,
        "steps": len(trajectory),
        "streams": streams,
        "seed": seed,
        "at_rest": AT_REST,
    }
    return {"settings": settings, "machine": describe(), "runs": runs}


def draw(own: jax.Array, num_train: int, streams: int, seed: int) -> dict[str, jax.Array]:
    """The minibatches of every sampling; `__main__.py` says what these are.

    Args:
        own: rows of the run's own minibatches, int32 [T, B].
        num_train: training images.
        streams: S, how many of each sampling.
        seed: of the drawing.

    Returns:
        Rows of the minibatches by sampling, int32 [T, S, B].
    """
    steps, batch_size = own.shape
    key, shuffle_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1))
    independent = jax.random.randint(key, (steps, streams, batch_size), 0, num_train)
    epochs = steps // (num_train // batch_size)
    order = partial(data.epoch_order, num_examples=num_train, batch_size=batch_size)
    shuffled = jax.vmap(jax.vmap(order))(jax.random.split(shuffle_key, (streams, epochs)))
    shuffled = shuffled.reshape(streams, steps, batch_size).swapaxes(0, 1)
    return {"independent": independent, "shuffled": shuffled, "own": own[:, None]}


def errors_along(
    dataset: data.ImageDataset,
    model: nn.Module,
    trajectory: jax.Array,
    rows: dict[str, jax.Array],
    tree: Any,
) -> dict[str, dict[str, DirectionErrors]]:
    """Errors of all directions for all samplings.

    Args:
        dataset: whose training images are the whole.
        model: a Flax Linen module without BatchNorm.
        trajectory: parameters at each step, [T, P].
        rows: of the minibatches by sampling, int32 [T, S, B].
        tree: parameters as the model has them, for their shapes.
    """
    images = data.normalize(jnp.asarray(dataset.train.images), dataset.mean, dataset.std)
    labels = jnp.asarray(dataset.train.labels)
    to_tree = ravel_pytree(tree)[1]

    def mean_loss(params: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits: Any = model.apply({"params": to_tree(params)}, images, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def gradients_at(step: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        def gradient(rows: jax.Array) -> jax.Array:
            return jax.grad(mean_loss)(trajectory[step], images[rows], labels[rows])

        streams = {name: jax.vmap(gradient)(of_all[step]) for name, of_all in rows.items()}
        return streams, jax.grad(mean_loss)(trajectory[step], images, labels)

    errors = jax.jit(lambda: measure_directions(DIRECTIONS, gradients_at, len(trajectory)))()
    return jax.tree.map(np.asarray, errors)
