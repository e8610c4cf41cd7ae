"""From a config to the parts of a run, everything checked. The only reader of the config."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vasso_jax import data, models, optim
from vasso_jax.choices import check_choice
from vasso_jax.train.dataset_facts import dataset_facts, in_words
from vasso_jax.train.feeds import Feed, open_feed
from vasso_jax.train.mesh import check_batch_size, make_mesh, with_shardings
from vasso_jax.train.optimizer import default_rho, describe, make_base, make_optimizer
from vasso_jax.train.schedules import make_schedule
from vasso_jax.train.state import TrainState, create_state, state_shardings
from vasso_jax.train.step import make_eval_step, make_train_step

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
_HYPERPARAMETERS = (
    *("rho", "theta", "sigma", "eta", "alpha", "density", "choice"),
    *("mask_every", "look_every", "refresh_every"),
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run that has not started: its parts, and how long and how often.

    Attributes:
        optimizer_words: the optimizer in words, for people.
        dataset_words: the data set in words.
        dataset_facts: what the run folder keeps of the data set: sizes, class names, statistics and
            label noise.
        feed: batches of the data set.
        abstract_state: shapes, dtypes and shardings of the state.
        create_state: makes the initial state on the mesh.
        train_step: `(state, *arguments of the feed) -> state`; see `make_train_step`.
        eval_step: `(state, *arguments of the feed) -> sums`; see `make_eval_step`.
    """

    model_name: str
    optimizer_words: str
    dataset_words: str
    dataset_facts: dict[str, Any]
    mesh: Mesh
    feed: Feed
    schedule: optax.Schedule
    seed: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    eval_every_epochs: int
    checkpoint_every_steps: int
    abstract_state: TrainState
    create_state: Callable[[], TrainState]
    train_step: Callable[..., TrainState]
    eval_step: Callable[..., dict[str, jax.Array]]

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run; none: evaluation only."""
        return self.epochs * self.steps_per_epoch


def build(config: Any, before_reading: Callable[[], None] = lambda: None) -> Experiment:
    """Checks `config` and builds its parts.

    Args:
        config: an ml_collections.ConfigDict with the fields of configs/default.py.
        before_reading: called once all is checked that needs no data.

    Raises:
        ValueError: a field has a value that cannot be.
        FileNotFoundError: the data set is not there.
    """
    # What needs no data is checked before it is read, which can take a while.
    mesh = make_mesh(config.fsdp)
    check_batch_size(config.batch_size, mesh)
    if config.eval_every_epochs < 1:
        raise ValueError(f"eval_every_epochs must be at least 1, got {config.eval_every_epochs}")
    if config.epochs < (0 if config.init_from else 1):
        raise ValueError(
            f"epochs must be at least 1, or with init_from 0 to evaluate only; got {config.epochs}"
        )
    if config.checkpoint_every_steps < 0:
        raise ValueError(
            f"checkpoint_every_steps must be >= 0, got {config.checkpoint_every_steps}"
        )
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), got {config.seed}")
    for field in ("dtype", "accumulator_dtype"):
        check_choice(field, config[field], tuple(_DTYPES))
    create_model(config, num_classes=1)
    augmentation = data.Augmentation(
        crop_padding=config.crop_padding,
        flip=config.flip,
        cutout_size=config.cutout_size,
        cutout_probability=config.cutout_probability,
    )
    streaming = data.Streaming(
        image_size=config.image_size,
        crop_min_area=config.crop_min_area,
        eval_crop=config.eval_crop,
        on_damaged=config.on_damaged,
        workers=config.workers,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    noise = None
    if config.label_noise:
        if config.human_labels:
            raise ValueError("human_labels are wrong enough: leave label_noise empty")
        noise = data.LabelNoise(
            config.label_noise, config.label_noise_rate, config.label_noise_seed
        )
    create_optimizer(config, learning_rate=config.lr)

    before_reading()
    dataset = data.load(
        config.dataset,
        config.data_dir,
        split_seed=config.split_seed,
        human_labels=config.human_labels,
    )
    steps_per_epoch = dataset.num_train // config.batch_size
    if config.epochs and not steps_per_epoch:
        raise ValueError(
            f"batch_size={config.batch_size} exceeds the {dataset.num_train} training images"
        )
    wrong_labels = None
    if noise is not None:
        dataset, wrong_labels = data.add_label_noise(dataset, noise)
    feed = open_feed(dataset, streaming, batch_size=config.batch_size, seed=config.seed, mesh=mesh)
    facts = dataset_facts(dataset, feed.image_shape, noise, wrong_labels, config.human_labels)
    if config.epochs and (config.refresh_every or 1) > steps_per_epoch:
        raise ValueError(
            f"refresh_every={config.refresh_every} exceeds the {steps_per_epoch} steps of an epoch"
        )
    schedule = make_schedule(
        config.schedule,
        lr=config.lr,
        final_lr=config.final_lr,
        epochs=config.epochs,
        warmup_epochs=config.warmup_epochs,
        steps_per_epoch=steps_per_epoch,
        milestones=config.milestones,
        decay_factor=config.decay_factor,
    )
    model = create_model(config, num_classes=len(dataset.class_names))
    tx, optimizer_words = create_optimizer(config, learning_rate=schedule)
    initial_state = partial(create_state, model, tx, feed.image_shape, config.seed)
    shapes = jax.eval_shape(initial_state)
    shardings = state_shardings(shapes, mesh)
    normalize = partial(data.normalize, mean=dataset.mean, std=dataset.std)
    return Experiment(
        model_name=config.model,
        optimizer_words=optimizer_words,
        dataset_words=in_words(facts),
        dataset_facts=facts,
        mesh=mesh,
        feed=feed,
        schedule=schedule,
        seed=config.seed,
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        batch_size=config.batch_size,
        eval_every_epochs=config.eval_every_epochs,
        checkpoint_every_steps=config.checkpoint_every_steps,
        abstract_state=with_shardings(shapes, shardings),
        create_state=jax.jit(initial_state, out_shardings=shardings),
        train_step=make_train_step(
            model,
            tx,
            take_batch=feed.take_batch,
            augment=partial(data.augment, options=augmentation, mean=dataset.mean, std=dataset.std),
            label_smoothing=config.label_smoothing,
            batch_stats=config.batch_stats,
            seed=config.seed,
            mesh=mesh,
        ),
        eval_step=make_eval_step(
            model,
            take_batch=feed.take_test_batch,
            normalize=normalize,
            mesh=mesh,
        ),
    )


def create_model(config: Any, num_classes: int) -> nn.Module:
    return models.create(config.model, num_classes, _DTYPES[config.dtype])


def create_optimizer(
    config: Any, learning_rate: optax.ScalarOrSchedule
) -> tuple[optax.GradientTransformationExtraArgs, str]:
    """The optimizer, and the same in words."""
    of_base = {name: config[name] for name in ("momentum", "nesterov", "weight_decay", "clip_norm")}
    base = make_base(
        config.base, learning_rate, b1=config.b1, b2=config.b2, eps=config.eps, **of_base
    )
    hyperparameters = {name: config[name] for name in _HYPERPARAMETERS}
    if config.rho_min is not None:
        rho_max = default_rho(config.optimizer) if config.rho is None else config.rho
        rho = optim.rho_tied_to_lr(
            learning_rate,
            rho_max=rho_max,
            rho_min=config.rho_min,
            lr_max=config.lr,
            lr_min=config.final_lr,
        )
        rho.__name__ = f"{rho_max:g} to {config.rho_min:g} with the learning rate"
        hyperparameters["rho"] = rho
    if not config.perturb_vectors:
        hyperparameters["mask"] = _matrices
    if config.accumulator_dtype != "float32":
        hyperparameters["accumulator_dtype"] = _DTYPES[config.accumulator_dtype]
    words = describe(
        config.optimizer,
        config.base,
        lr=config.lr,
        schedule=config.schedule,
        warmup_epochs=config.warmup_epochs,
        **of_base,
        **hyperparameters,
    )
    tx = make_optimizer(config.optimizer, base, seed=config.seed, **hyperparameters)
    return tx, words


def _matrices(params: Any) -> Any:
    """The mask of what has more than one axis: neither biases nor BatchNorm's parameters."""
    return jax.tree.map(lambda p: p.ndim > 1, params)
