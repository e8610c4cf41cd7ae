"""The program of a run: its network, its optimizer, and the jitted functions made of them."""

import dataclasses
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import Mesh

from vasso_jax import data
from vasso_jax.train.config.fields import RunOptions
from vasso_jax.train.config.optimizer import Optimizer
from vasso_jax.train.devices.sharding import check_spread, with_shardings
from vasso_jax.train.input_pipeline import TakeBatch, TakeEvalBatch
from vasso_jax.train.steps import compiler_options
from vasso_jax.train.steps.accumulation import check_batches
from vasso_jax.train.steps.batch_stats import check_passes, check_statistics
from vasso_jax.train.steps.fit import check_network, check_optimizer
from vasso_jax.train.steps.state import TrainState, create_state, state_formats
from vasso_jax.train.steps.step import make_eval_step, make_train_step


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """What a program depends on of its data set.

    Attributes:
        num_train: training images.
        num_classes: classes.
        image_shape: (H, W, C) of what the network sees.
        mean, std: per channel, for pixels in [0, 1].
    """

    num_train: int
    num_classes: int
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Program:
    """The functions of a run.

    Attributes:
        model: the network.
        schedule: learning rate by step; None where it is inside a given transform.
        steps_per_epoch: optimizer steps per epoch.
        abstract_state: shapes, dtypes and placement of the state.
        create_state: makes the initial state on the mesh.
        train_step: `(state, item) -> state`; see `make_train_step`.
        eval_step: `(state, item) -> sums`; see `make_eval_step`.
    """

    model: nn.Module
    schedule: optax.Schedule | None
    steps_per_epoch: int
    abstract_state: TrainState
    create_state: Callable[[], TrainState]
    train_step: Callable[..., TrainState]
    eval_step: Callable[..., dict[str, jax.Array]]


def make_program(
    options: RunOptions,
    mesh: Mesh,
    augmentation: data.Augmentation,
    make_model: Callable[[int], nn.Module],
    make_optimizer: Callable[[int], Optimizer],
    spec: DataSpec,
    take_batch: TakeBatch,
    take_eval_batch: TakeEvalBatch,
) -> Program:
    """Makes the program on the data that `spec` describes; arguments as in `Plan`.

    Raises:
        ValueError: the network or the augmentation does not fit the data, the optimizer does not
            fit the network or does not take whole batches, or `batch_stats` or `batch_stats_over`
            has no effect.
    """
    augmentation.check_fit(spec.image_shape, options.batch_size)
    steps_per_epoch = spec.num_train // options.batch_size
    model = make_model(spec.num_classes)
    optimizer = make_optimizer(steps_per_epoch)
    tx = optimizer.tx
    create = partial(
        create_state,
        model,
        tx,
        spec.image_shape,
        spec.num_classes,
        ema_decay=options.ema_decay,
        has_rho=optimizer.rho is not None,
        has_windows=options.record_every_steps > 0,
    )
    # An argument, so that runs of other seeds can use the same compiled program.
    seed = np.uint32(options.seed)
    shapes = jax.eval_shape(create, seed)
    per_device = options.batch_stats_over == "device"
    check_network(
        model,
        shapes.params,
        shapes.batch_stats,
        spec.image_shape,
        spec.num_classes,
        options.batch_size // (options.microbatches * (mesh.size if per_device else 1)),
    )
    # An optimizer made for these very parameters could not be checked before.
    check_batches(tx, shapes.params, scheduled=optimizer.schedule is not None)
    check_optimizer(tx, shapes.params, shapes.opt_state)
    check_passes(options.batch_stats, tx, shapes.params)
    check_statistics(options, shapes.batch_stats)
    check_spread(shapes.params, mesh)
    formats = state_formats(shapes, mesh)
    device = mesh.devices.flat[0]
    step_options = compiler_options.for_steps(device, deterministic=options.deterministic)
    statistics = {"mean": spec.mean, "std": spec.std}
    return Program(
        model=model,
        schedule=optimizer.schedule,
        steps_per_epoch=steps_per_epoch,
        abstract_state=with_shardings(shapes, formats),
        create_state=partial(
            jax.jit(
                create,
                out_shardings=formats,
                compiler_options=compiler_options.for_initial_state(device),
            ),
            seed,
        ),
        train_step=make_train_step(
            model,
            tx,
            take_batch=take_batch,
            augment=partial(data.augment, options=augmentation, **statistics),
            mix=partial(data.mix, options=augmentation) if augmentation.mixes else None,
            label_smoothing=options.label_smoothing,
            batch_stats=options.batch_stats,
            mesh=mesh,
            rho=optimizer.rho,
            ema_decay=options.ema_decay,
            batch_stats_over=options.batch_stats_over,
            microbatches=options.microbatches,
            formats=formats,
            compiler_options=step_options,
        ),
        eval_step=make_eval_step(
            model,
            take_batch=take_eval_batch,
            normalize=partial(data.normalize, **statistics),
            mesh=mesh,
            compiler_options=step_options,
        ),
    )
