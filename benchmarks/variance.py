"""Does VaSSO's average suppress the variance of SAM's direction? Measured along training runs.

    python -m benchmarks.variance [--lrs 0.005 0.05 0.2 0.5] [--epochs 20] [--streams 16] [--seed 0]

The claim of Li and Giannakis (arXiv 2309.15639): where a minibatch's gradient g has the variance
sigma^2 = E||g - G||^2 about the gradient G of the whole training loss, SAM's direction d = g has
the mean squared error E||d - G||^2 = sigma^2, and the average d = (1 - theta) d + theta g at most
about theta sigma^2, plus a term for how far the parameters have moved. Of parameters at rest it
tends to theta / (2 - theta) sigma^2; a drift of G adds the square of (1 - theta) / theta steps.

For each learning rate a network is trained by the trainer's step with configs/digits_vasso.py's
optimizer, and its parameters kept at every step. Along this fixed trajectory, for each theta,
streams of minibatches go through the very transform `suppress_variance(theta)`:

    independent   each minibatch drawn anew with replacement, as the theorem has it
    shuffled      epochs in random order, as the trainer's, but not the order that made the run
    own           the order that made the run: one stream, on which the parameters depend

The network is a perceptron. With BatchNorm an example's gradient would depend on the rest of its
minibatch: minibatch gradients would be biased against G, and sigma would not be what is averaged
away. Convolutions would only make it slow. Images are not augmented, so that G is exact, and
neither G nor d has the weight decay.

Writes a JSON file and a picture, and prints one JSON line a learning rate. A ratio is one of means
over the steps of a tenth of the run; its standard error is over the streams.
"""

import argparse
import json
import pathlib
import platform
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from vasso_jax.train.feeds import DeviceFeed
from vasso_jax.train.mesh import make_mesh

from benchmarks.variance_figure import plot
from benchmarks.variance_summary import PHASES, curves, digits, in_phase
from configs import digits_vasso
from vasso_jax import data, optim
from vasso_jax.sharpness import DirectionErrors, measure_directions
from vasso_jax.train.optimizer import make_base
from vasso_jax.train.schedules import make_schedule
from vasso_jax.train.state import create_state
from vasso_jax.train.step import make_train_step

ROOT = pathlib.Path(__file__).parents[1]
THETAS = (0.9, 0.4, 0.2)
DIRECTIONS = {"SAM": optax.identity()} | {
    f"VaSSO, theta {theta:g}": optim.suppress_variance(theta) for theta in THETAS
}
AT_REST = dict(zip(DIRECTIONS, [theta / (2 - theta) for theta in (1.0, *THETAS)], strict=True))


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


def main() -> None:
    options = _parser().parse_args()
    try:
        record = measure(
            options.lrs,
            epochs=options.epochs,
            batch_size=options.batch_size,
            streams=options.streams,
            seed=options.seed,
        )
        for path in (options.results, options.figure):
            path.parent.mkdir(parents=True, exist_ok=True)
        options.results.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
        plot(record, options.figure)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measures how VaSSO suppresses variance.")
    parser.add_argument("--lrs", type=float, nargs="+", default=[0.005, 0.05, 0.2, 0.5])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--streams", type=int, default=16, help="of each sampling")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--results", type=pathlib.Path, default=ROOT / "benchmarks/results/variance.json"
    )
    parser.add_argument("--figure", type=pathlib.Path, default=ROOT / "docs/variance.png")
    return parser


def measure(
    lrs: Sequence[float], *, epochs: int, batch_size: int, streams: int, seed: int
) -> dict[str, Any]:
    """The content of the JSON file; prints a line a learning rate.

    Raises:
        ValueError: a number out of range, or a run diverged.
    """
    if min(epochs, batch_size) < 1 or streams < 2:
        raise ValueError(
            "needs --epochs >= 1, --batch_size >= 1 and --streams >= 2, got "
            f"{epochs}, {batch_size} and {streams}"
        )
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), got {seed}")
    dataset = data.load("digits")
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
    packages = {m.__name__: m.__version__ for m in (jax, flax, optax, np)}
    versions = {"python": platform.python_version(), **packages}
    versions["device"] = jax.devices()[0].device_kind
    return {"settings": settings, "versions": versions, "runs": runs}


def train(
    dataset: data.ImageDataset, model: Any, lr: float, *, epochs: int, batch_size: int, seed: int
) -> tuple[jax.Array, jax.Array, Any]:
    """Parameters [T, P] before each step, rows of each minibatch int32 [T, B], the last state."""
    defaults = digits_vasso.get_config()
    steps_per_epoch = dataset.num_train // batch_size
    schedule = make_schedule(
        defaults.schedule,
        lr=lr,
        final_lr=defaults.final_lr,
        epochs=epochs,
        warmup_epochs=defaults.warmup_epochs,
        steps_per_epoch=steps_per_epoch,
        milestones=defaults.milestones,
        decay_factor=defaults.decay_factor,
    )
    of_base = ("momentum", "nesterov", "weight_decay", "b1", "b2", "eps", "clip_norm")
    base = make_base(defaults.base, schedule, **{name: defaults[name] for name in of_base})
    tx = optim.vasso(base, rho=defaults.rho, theta=defaults.theta)
    # One device: a sum over several would be rounded otherwise, and the run another one.
    mesh = make_mesh(devices=jax.devices()[:1])
    feed = DeviceFeed(dataset, batch_size=batch_size, seed=seed, mesh=mesh)
    step = make_train_step(
        model,
        tx,
        take_batch=feed.take_batch,
        augment=lambda key, images: data.normalize(images, dataset.mean, dataset.std),
        label_smoothing=0.0,
        batch_stats="clean",
        seed=seed,
        mesh=mesh,
    )
    state = create_state(model, tx, feed.image_shape, seed)
    trajectory, rows = [], []
    for i, arguments in zip(range(epochs * steps_per_epoch), feed.training(0), strict=False):
        trajectory.append(np.asarray(ravel_pytree(state.params)[0]))
        rows.append(np.asarray(arguments[-1][i % steps_per_epoch]))
        state = step(state, *arguments)
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(state.params)):
        raise ValueError(f"the run with lr {lr:g} diverged: give smaller --lrs")
    return jnp.asarray(trajectory), jnp.asarray(rows), state


def draw(own: jax.Array, num_train: int, streams: int, seed: int) -> dict[str, jax.Array]:
    """Rows of the minibatches of every sampling, int32 [T, S, B]; see the top of this file."""
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
    model: Any,
    trajectory: jax.Array,
    rows: dict[str, jax.Array],
    tree: Any,
) -> dict[str, dict[str, DirectionErrors]]:
    """Errors of all directions for all samplings."""
    images = data.normalize(jnp.asarray(dataset.train.images), dataset.mean, dataset.std)
    labels = jnp.asarray(dataset.train.labels)
    to_tree = ravel_pytree(tree)[1]

    def mean_loss(params: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = model.apply({"params": to_tree(params)}, images, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def gradients_at(step: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        def gradient(rows: jax.Array) -> jax.Array:
            return jax.grad(mean_loss)(trajectory[step], images[rows], labels[rows])

        streams = {name: jax.vmap(gradient)(of_all[step]) for name, of_all in rows.items()}
        return streams, jax.grad(mean_loss)(trajectory[step], images, labels)

    errors = jax.jit(lambda: measure_directions(DIRECTIONS, gradients_at, len(trajectory)))()
    return jax.tree.map(np.asarray, errors)


def test_accuracy(dataset: data.ImageDataset, model: nn.Module, params: Any) -> float:
    """Of the held-out images."""
    images = data.normalize(jnp.asarray(dataset.test.images), dataset.mean, dataset.std)
    logits: Any = model.apply({"params": params}, images, train=False)
    return float((logits.argmax(axis=-1) == dataset.test.labels).mean())


if __name__ == "__main__":
    main()
