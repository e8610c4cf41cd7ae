"""From a config to a checked plan, and from a plan and its data to an experiment.

`check(config)` needs no data: it checks every field, and makes what does not depend on data.
`plan.open(dataset)` makes the rest. Nothing else reads the config.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import optax
from jax.sharding import Mesh

from vasso_jax import data, models, optim
from vasso_jax.data import sources
from vasso_jax.names import lookup
from vasso_jax.train import processes
from vasso_jax.train.config import SECTIONS, RunOptions
from vasso_jax.train.dataset_facts import dataset_facts
from vasso_jax.train.input_pipeline import (
    Pipeline,
    TakeBatch,
    TakeEvalBatch,
    open_pipeline,
    ready_batch,
)
from vasso_jax.train.optimizer import BASES, METHODS, summary
from vasso_jax.train.schedules import SCHEDULES
from vasso_jax.train.sections import Part, bind
from vasso_jax.train.sharding import check_batch_size, make_mesh, with_shardings
from vasso_jax.train.state import TrainState, create_state, state_shardings
from vasso_jax.train.step import make_eval_step, make_train_step

Dataset = data.ImageDataset | data.StreamedDataset
# Arguments that the run supplies, by section, and that therefore are no fields of it.
SUPPLIED = {
    "method": ("microbatches",),
    "rho_schedule": ("learning_rate", "rho_max", "lr_max", "lr_min"),
    "schedule": ("lr", "epochs", "steps_per_epoch"),
    "model": ("num_classes", "parent", "name"),
}


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
        abstract_state: shapes, dtypes and shardings of the state.
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


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run that has not started: its plan, its data and its program.

    Attributes:
        dataset_facts: what the run folder keeps of the data set.
    """

    plan: "Plan"
    dataset_facts: Mapping[str, Any]
    pipeline: Pipeline
    program: Program

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run; none: evaluation only."""
        return self.plan.options.epochs * self.program.steps_per_epoch


@dataclasses.dataclass(frozen=True)
class Plan:
    """A checked config.

    Attributes:
        options: what concerns the run as a whole.
        settings: the config completed by all defaults, fit for JSON.
        optimizer_summary: the optimizer in a line for people.
        mesh: over all devices.
        source: the data set, not read yet; None where `open` is given one.
        label_noise: to be put into the training labels, if any.
        augmentation: of training images.
        make_model: `(num_classes) -> network`.
        make_optimizer: `(steps_per_epoch) -> learning rate, transform`.
        refresh_every: of the method, which must not exceed an epoch.
    """

    options: RunOptions
    settings: Mapping[str, Any]
    optimizer_summary: str
    mesh: Mesh
    source: data.Source
    label_noise: data.LabelNoise | None
    augmentation: data.Augmentation
    make_model: Callable[[int], nn.Module]
    make_optimizer: Callable[[int], tuple[optax.Schedule | None, optax.GradientTransformation]]
    refresh_every: int

    def open(self, dataset: Dataset) -> Experiment:
        """The experiment on a data set, with its label noise put in.

        Raises:
            ValueError: the data set does not fit the plan.
        """
        changed_labels = None
        if self.label_noise is not None:
            dataset, changed_labels = data.add_label_noise(dataset, self.label_noise)
        spec = DataSpec(
            num_train=dataset.num_train,
            num_classes=len(dataset.class_names),
            image_shape=dataset.image_shape,
            mean=dataset.mean,
            std=dataset.std,
        )
        self._check_length(spec)
        pipeline = open_pipeline(
            dataset, batch_size=self.options.batch_size, seed=self.options.seed, mesh=self.mesh
        )
        human_labels = getattr(self.source, "human_labels", "")
        return Experiment(
            plan=self,
            dataset_facts=dataset_facts(dataset, self.label_noise, changed_labels, human_labels),
            pipeline=pipeline,
            program=self.program(spec, pipeline.take_batch, pipeline.take_eval_batch),
        )

    def program(
        self,
        spec: DataSpec,
        take_batch: TakeBatch = ready_batch,
        take_eval_batch: TakeEvalBatch = ready_batch,
    ) -> Program:
        """The functions of the run; without data, for shapes, compilation and timing.

        Args:
            spec: of the data set.
            take_batch: see `make_train_step`; by default, an item is a batch.
            take_eval_batch: see `make_eval_step`; by default, an item is a batch.

        Raises:
            ValueError: the network does not fit the data.
        """
        options = self.options
        steps_per_epoch = spec.num_train // options.batch_size
        model = self.make_model(spec.num_classes)
        schedule, tx = self.make_optimizer(steps_per_epoch)
        create = partial(create_state, model, tx, spec.image_shape, spec.num_classes, options.seed)
        shapes = jax.eval_shape(create)
        shardings = state_shardings(shapes, self.mesh)
        statistics = {"mean": spec.mean, "std": spec.std}
        return Program(
            model=model,
            schedule=schedule,
            steps_per_epoch=steps_per_epoch,
            abstract_state=with_shardings(shapes, shardings),
            create_state=jax.jit(create, out_shardings=shardings),
            train_step=make_train_step(
                model,
                tx,
                take_batch=take_batch,
                augment=partial(data.augment, options=self.augmentation, **statistics),
                label_smoothing=options.label_smoothing,
                batch_stats=options.batch_stats,
                seed=options.seed,
                mesh=self.mesh,
            ),
            eval_step=make_eval_step(
                model,
                take_batch=take_eval_batch,
                normalize=partial(data.normalize, **statistics),
                mesh=self.mesh,
            ),
        )

    def _check_length(self, spec: DataSpec) -> None:
        options, steps = self.options, spec.num_train // self.options.batch_size
        if options.epochs and not steps:
            raise ValueError(
                f"batch_size={options.batch_size} exceeds the {spec.num_train} training images"
            )
        if options.epochs and self.refresh_every > steps:
            raise ValueError(
                f"method.refresh_every={self.refresh_every} exceeds the {steps} steps of an epoch"
            )


def check(
    config: Any,
    *,
    model: nn.Module | None = None,
    dataset: Dataset | None = None,
    tx: optax.GradientTransformation | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Plan:
    """Checks `config`, without any data.

    Args:
        config: an ml_collections.ConfigDict; see `default_config`.
        model: takes the place of the section `model`; a Flax Linen module.
        dataset: takes the place of the section `data`.
        tx: takes the place of the sections `method`, `rho_schedule`, `base` and `schedule`.
        devices: None: all of all hosts.

    Raises:
        ValueError: a field does not exist, or has a value that cannot be.
    """
    parts = bind_config(config)
    options: RunOptions = parts[""]()
    if options.distributed:
        processes.join_cluster()
    mesh = make_mesh(options.fsdp, devices)
    check_batch_size(options.batch_size, mesh)
    settings = {**parts[""].settings, **{name: parts[name].settings for name in SECTIONS}}

    make_model = partial(_make_model, parts["model"])
    if model is not None:
        settings["model"] = {"name": "given", "repr": " ".join(repr(model).split())}
        make_model = partial(_given, model)
    source = parts["data"]() if dataset is None else sources.Given(dataset)
    if dataset is not None:
        settings["data"] = {"name": dataset.name}
    label_noise = parts["label_noise"]() if parts["label_noise"].arguments else None
    if label_noise is not None and getattr(source, "human_labels", ""):
        raise ValueError("label noise cannot be added to human_labels: leave one of them out")

    make_optimizer = partial(_make_optimizer, parts, options)
    line = "a given optax transform"
    if tx is not None:
        settings |= dict.fromkeys(("method", "rho_schedule", "base", "schedule"), {"name": "given"})
        make_optimizer = partial(_given, (None, tx))
    else:
        line = summary(*(settings[s] for s in ("method", "rho_schedule", "base", "schedule")))
        # The constructors check their own arguments. How long an epoch is, only the data tells:
        # this is long enough for every schedule.
        make_optimizer(1000)
    return Plan(
        options=options,
        settings=settings,
        optimizer_summary=line,
        mesh=mesh,
        source=source,
        label_noise=label_noise,
        augmentation=parts["augment"](),
        make_model=make_model,
        make_optimizer=make_optimizer,
        refresh_every=1 if tx else parts["method"].arguments.get("refresh_every") or 1,
    )


def bind_config(config: Any) -> dict[str, Part]:
    """Each section of the config bound to its constructor; "" has the fields outside of them.

    Raises:
        ValueError: a field does not exist, or its value has another type.
    """
    fields = config.to_dict()
    sections = {name: dict(fields.pop(name, None) or {}) for name in SECTIONS}
    names = {
        section: sections[section].pop("name", default) for section, default in SECTIONS.items()
    }
    method = lookup("method", names["method"], METHODS)
    constructors: dict[str, Callable[..., Any]] = {
        "method": method,
        "rho_schedule": optim.rho_tied_to_lr,
        "base": _taking_lr(lookup("base", names["base"], BASES)),
        "schedule": lookup("schedule", names["schedule"], SCHEDULES),
        "model": models.constructor(names["model"]),
        "data": sources.constructor(names["data"]),
        "label_noise": data.LabelNoise,
        "augment": data.Augmentation,
    }
    supplied = {**SUPPLIED, "method": _supplied_to_method(method, sections["method"])}
    parts = {"": bind("", None, RunOptions, fields)}
    for section, constructor in constructors.items():
        of_run = supplied.get(section, ())
        if section in ("label_noise", "rho_schedule") and not sections[section]:
            parts[section] = Part(section, None, constructor, {}, {}, of_run)  # empty: none
            continue
        others = METHODS if section == "method" else {}
        parts[section] = bind(
            *(section, names[section], constructor, sections[section]),
            supplied=of_run,
            others=others,
        )
    if parts["rho_schedule"].settings and "rho" not in parts["method"].settings:
        raise ValueError(f"rho_schedule has no effect: method {names['method']} has no rho")
    return parts


def _supplied_to_method(method: Callable[..., Any], fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The base comes first; a method that draws something gets the run's seed, unless it is set."""
    if fields.get("microbatches") is not None:
        raise ValueError("method.microbatches has no effect: the trainer takes each batch whole")
    first, *others = inspect.signature(method).parameters
    seed = ("seed",) if "seed" in others and fields.get("seed") is None else ()
    return (first, *SUPPLIED["method"], *seed)


def _taking_lr(constructor: Callable[..., Any]) -> Callable[..., Any]:
    """A base whose first argument, whatever its name, is called lr."""
    signature = inspect.signature(constructor)
    first, *others = signature.parameters.values()

    def make(lr: optax.ScalarOrSchedule, **fields: Any) -> optax.GradientTransformation:
        return constructor(lr, **fields)

    make.__signature__ = signature.replace(  # pyright: ignore[reportFunctionMemberAccess]
        parameters=[first.replace(name="lr"), *others]
    )
    make.__doc__ = constructor.__doc__
    return make


def _make_optimizer(
    parts: Mapping[str, Part], options: RunOptions, steps_per_epoch: int
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """The learning rate, and the method around its base."""
    lr = parts["base"].settings["lr"]
    schedule = parts["schedule"](lr, options.epochs, steps_per_epoch)
    base = parts["base"].constructor(**{**parts["base"].arguments, "lr": schedule})
    method, named = parts["method"], {}
    if "seed" in inspect.signature(method.constructor).parameters:
        named["seed"] = method.arguments.get("seed", options.seed)
    if parts["rho_schedule"].settings:
        named["rho"] = parts["rho_schedule"](
            schedule,
            rho_max=method.settings["rho"],
            lr_max=lr,
            lr_min=parts["schedule"].settings.get("final_lr", 0.0),
        )
    return schedule, method.constructor(base, **{**method.arguments, **named})


def _make_model(part: Part, num_classes: int) -> nn.Module:
    """The network, told the number of classes if it wants to know."""
    wanted = "num_classes" in inspect.signature(part.constructor).parameters
    model = part(num_classes=num_classes) if wanted else part()
    if not isinstance(model, nn.Module):
        raise ValueError(f"{part.name} must be a Flax Linen module, or return one, got {model!r}")
    return model


def _given(value: Any, _: int) -> Any:
    return value
