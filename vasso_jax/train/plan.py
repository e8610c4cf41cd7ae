"""From a config to a checked plan, and from a plan and its data to an experiment.

`check(config)` needs no data: it checks every field, and makes what does not depend on data.
`plan.open(dataset)` makes the rest.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import optax
from jax.sharding import Mesh

from vasso_jax import data
from vasso_jax.train.config.fields import SECTIONS, Config, RunOptions
from vasso_jax.train.config.objects import Dataset, given_parts
from vasso_jax.train.config.optimizer import METHODS, Optimizer, summary
from vasso_jax.train.config.parts import bind_config, make_model, make_optimizer
from vasso_jax.train.devices import processes
from vasso_jax.train.devices.sharding import check_batch_size, make_mesh
from vasso_jax.train.input_pipeline import (
    Pipeline,
    TakeBatch,
    TakeEvalBatch,
    open_pipeline,
    ready_batch,
)
from vasso_jax.train.reporting.dashboards import check_installed
from vasso_jax.train.run_data import as_trained
from vasso_jax.train.steps.accumulation import check_batches
from vasso_jax.train.steps.batch_stats import check_passes
from vasso_jax.train.steps.compiler_options import check_deterministic, check_repeatable
from vasso_jax.train.steps.program import DataSpec, Program, make_program

if TYPE_CHECKING:
    from vasso_jax.train.epoch_sharpness import EpochSharpness


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run that has not started: its plan, its data and its program.

    Attributes:
        dataset_facts: what the run folder keeps of the data set.
        has_validation: whether the data set has a validation split.
        sharpness: what measures it after some epochs; None: nothing does.
    """

    plan: "Plan"
    dataset_facts: Mapping[str, Any]
    has_validation: bool
    pipeline: Pipeline
    program: Program
    sharpness: "EpochSharpness | None"

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
        source: the data set, not read yet.
        label_noise: to be put into the training labels, if any.
        validation: which training images are held out, if any.
        augmentation: of training images.
        make_model: `(num_classes) -> network`.
        make_optimizer: `(steps_per_epoch) -> Optimizer`.
    """

    options: RunOptions
    settings: Mapping[str, Any]
    optimizer_summary: str
    mesh: Mesh
    source: data.Source
    label_noise: data.LabelNoise | None
    validation: data.Validation | None
    augmentation: data.Augmentation
    make_model: Callable[[int], nn.Module]
    make_optimizer: Callable[[int], Optimizer]

    def open(self, dataset: Dataset) -> Experiment:
        """The experiment on a data set, with label noise put in and validation images held out.

        Raises:
            ValueError: the data set does not fit the plan.
        """
        dataset, facts = as_trained(dataset, self.source, self.label_noise, self.validation)
        if self.options.epochs and self.options.patience and dataset.validation is None:
            raise ValueError(
                f"patience={self.options.patience} needs a validation split: hold out some of the "
                "training images, as by --config.validation.share=0.1"
            )
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
        program = self.program(spec, pipeline.take_batch, pipeline.take_eval_batch)
        sharpness = None
        if self.options.epochs and self.options.sharpness_every_epochs:
            # Local, as what it needs is slow to import, and few runs need it.
            from vasso_jax.train.epoch_sharpness import EpochSharpness

            sharpness = EpochSharpness(program.model, dataset)
        return Experiment(
            plan=self,
            dataset_facts=facts,
            has_validation=dataset.validation is not None,
            pipeline=pipeline,
            program=program,
            sharpness=sharpness,
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
        return make_program(
            self.options,
            self.mesh,
            self.augmentation,
            self.make_model,
            self.make_optimizer,
            spec,
            take_batch,
            take_eval_batch,
        )

    def _check_length(self, spec: DataSpec) -> None:
        options, method = self.options, self.settings["method"]
        if not options.epochs:
            return
        steps = spec.num_train // options.batch_size
        total = options.epochs * steps
        if not steps:
            raise ValueError(
                f"batch_size={options.batch_size} exceeds the {spec.num_train} training images"
            )
        if total >= 2**31:  # the counter of the train state is an int32
            raise ValueError(
                f"epochs={options.epochs} are {total} steps: a run has fewer than 2**31, so give "
                "fewer epochs"
            )
        ours = method if method["name"] in METHODS else {}
        refresh_every, active = ours.get("refresh_every"), ours.get("active")
        if refresh_every and refresh_every > steps:
            raise ValueError(
                f"method.refresh_every={refresh_every} exceeds the {steps} steps of an epoch"
            )
        if isinstance(active, list | tuple) and active[0] >= total:
            raise ValueError(
                f"method.active begins at step {active[0]}, but the run has {total} steps: none "
                "would be perturbed"
            )
        for field in ("checkpoint_every_steps", "record_every_steps"):
            if (every := getattr(options, field)) >= total:
                raise ValueError(f"{field}={every} has no effect: the run has {total} steps")
        if (every := options.recheck_every_steps) > total:
            raise ValueError(
                f"recheck_every_steps={every} has no effect: the run has {total} steps"
            )


def check(
    config: Config,
    *,
    model: nn.Module | None = None,
    dataset: Dataset | None = None,
    tx: optax.GradientTransformation | None = None,
    devices: Sequence[Any] | None = None,
) -> Plan:
    """Checks `config`, without any data.

    Args:
        config: an ml_collections.ConfigDict; see `default_config`.
        model: takes the place of the section `model`; a Flax Linen module.
        dataset: takes the place of the section `data`.
        tx: takes the place of the sections `method`, `rho_schedule`, `window`, `base` and
            `schedule`. A
            section that is replaced may have no fields but its name.
        devices: None: all of all hosts.

    Raises:
        ValueError: a field does not exist, or has a value that cannot be.
    """
    parts = bind_config(config, given_parts(model, dataset, tx))
    options: RunOptions = parts[""]()
    for field, set_up in (("distributed", options.distributed), ("fsdp", options.fsdp > 1)):
        if set_up and options.sharpness_every_epochs:
            # The network would have to fit on one device.
            raise ValueError(
                f"sharpness_every_epochs cannot be combined with {field}: measure the checkpoints "
                "by vasso-jax sharpness"
            )
    if options.distributed:
        processes.join_cluster()
    check_installed(options.wandb_project)
    mesh = make_mesh(options.fsdp, devices)
    if options.deterministic:
        check_deterministic(mesh.devices.flat[0])
    if options.recheck_every_steps:
        check_repeatable(mesh.devices.flat[0], deterministic=options.deterministic)
    own_settings = dict(parts[""].settings)
    if per_device := own_settings.pop("batch_size_per_device"):
        batch_size = per_device * mesh.size
        options = dataclasses.replace(options, batch_size=batch_size, batch_size_per_device=0)
        own_settings["batch_size"] = batch_size
    check_batch_size(options.batch_size, options.microbatches, mesh)
    settings = {**own_settings, **{name: parts[name].settings for name in SECTIONS}}
    if options.batch_stats_over == "device":
        if mesh.size == 1:
            raise ValueError(
                "batch_stats_over=device has no effect on one device: leave it out, or resume on "
                "as many devices as the run began with"
            )
        # The result depends on it, so the run folder holds a resumed run to it.
        settings["batch_stats_devices"] = mesh.size
    if tx is None:
        if options.batch_stats != "clean" and settings["method"]["name"] == "none":
            raise ValueError(
                f"batch_stats={options.batch_stats} has no effect: method none has no perturbed "
                "pass; leave it out"
            )
        optimizer = partial(make_optimizer, parts, options)
        # The constructors check their own arguments. How long an epoch is, only the data tells:
        # this is long enough for every schedule.
        made = optimizer(1_000_000).tx
        optimizer_summary = summary(
            *(
                settings[section]
                for section in ("method", "rho_schedule", "window", "base", "schedule")
            )
        )
    else:
        made = tx
        optimizer_summary = "a given optax transform"
        optimizer = partial(_given_optimizer, tx)
    check_batches(made, scheduled=tx is None)
    check_passes(options.batch_stats, made)
    source = parts["data"]()
    label_noise = parts["label_noise"]() if parts["label_noise"].arguments else None
    if label_noise is not None and getattr(source, "human_labels", ""):
        raise ValueError("label noise cannot be added to human_labels: leave one of them out")
    validation = parts["validation"]() if parts["validation"].arguments else None
    return Plan(
        options=options,
        settings=settings,
        optimizer_summary=optimizer_summary,
        mesh=mesh,
        source=source,
        label_noise=label_noise,
        validation=validation,
        augmentation=parts["augment"](),
        make_model=partial(make_model, parts["model"]),
        make_optimizer=optimizer,
    )


def _given_optimizer(tx: optax.GradientTransformation, steps_per_epoch: int) -> Optimizer:
    """As `make_optimizer`; the learning rate is inside and not known."""
    del steps_per_epoch
    return Optimizer(tx)
