"""The config of a run: its sections, and what stands beside them.

A section holds a name and the arguments of what that name stands for, such as `method.name=vasso`
and `method.rho`: only those that are to differ from its defaults. `vasso_jax.train.plan` says what
each name stands for. Nothing here needs JAX, so that a wrong command line is answered at once.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from vasso_jax.names import check_choice

# An ml_collections.ConfigDict; no type checker knows the fields of its sections.
Config = Any

# The sections, with the name that each begins with; those without a name have one constructor.
SECTIONS: dict[str, str | None] = {
    "method": "vasso",
    "rho_schedule": None,
    "window": None,
    "base": "sgd",
    "schedule": "cosine",
    "model": "wrn10_1",
    "data": "digits",
    "label_noise": None,
    "validation": None,
    "augment": None,
}
BATCH_STATS = ("clean", "perturbed", "both")
BATCH_STATS_OVER = ("batch", "device")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What concerns the run as a whole: the fields outside of the sections.

    Attributes:
        epochs: length of the run; with `init_from`, 0 evaluates only, and what concerns training is
            not used.
        batch_size: images per step, over all devices.
        batch_size_per_device: images per step and device, in the place of batch_size; 0: that
            counts.
        seed: seed of the initial weights, data order, augmentation and dropout.
        label_smoothing: share of the target that is spread over all classes, in [0, 1).
        batch_stats: the pass whose statistics move BatchNorm's running ones: `clean`, `perturbed`,
            or `both`, one after the other; the latter two need a method with a perturbed pass.
        batch_stats_over: the images by whose statistics BatchNorm normalises: `batch`, those of all
            devices, or `device`, those of its own.
        microbatches: parts of the batch in which each pass is made, one after the other, to save
            memory; BatchNorm normalises each by its own statistics.
        init_from: run to take the weights from: its folder for the newest checkpoint, FOLDER@best
            or FOLDER@STEP; a head for other classes starts anew.
        ema_decay: decay per step of an average of the weights, which is evaluated beside them and
            ranks the checkpoints, in [0, 1), such as 0.999; 0: none.
        eval_every_epochs: epochs between two evaluations, on the validation split if there is one,
            else on the test split; the last epoch is always evaluated.
        patience: stop after so many evaluations in a row without a better validation accuracy;
            0: never.
        checkpoint_every_steps: steps between two checkpoints, besides those at the end of each
            epoch; 0: only those.
        keep_last: how many of the newest checkpoints are kept, besides the best; where the newest
            is found damaged, the run goes on from the one before.
        keep_every_epochs: epochs between two checkpoints that are kept for good, besides the newest
            and the best; 0: none.
        record_every_steps: steps between two records of the training within an epoch; 0: none.
        sharpness_every_epochs: epochs between two measurements of the largest eigenvalue and the
            trace of the Hessian of 500 training images, each by about 40 products with it; 0: none.
        recheck_every_steps: steps between two that are computed twice, to compare the bits; if they
            differ, the machine is at fault, and the run ends so that it can be resumed elsewhere;
            needs room for one more state, and on GPUs `deterministic`; 0: none.
        stall_timeout: seconds within which a step, a batch of an evaluation or a save has to end;
            if it does not, the stacks of all threads are printed, and the run ends so that it can
            be resumed; 0: no limit.
        tensorboard: write event files where TensorFlow and TensorBoard are installed.
        wandb_project: Weights & Biases project to report to; empty: none.
        fsdp: number of devices that parameters and optimizer state are spread over; 1: a copy on
            each.
        deterministic: on GPUs, only operations whose result is the same in every run, chosen
            without timing them; slower. Refused on CPUs and TPUs, which have no others.
        distributed: join the other processes of a cluster (Slurm, Open MPI, TPU pods, Kubernetes).

    Raises:
        ValueError: a value is out of range.
    """

    epochs: int = 30
    batch_size: int = 128
    batch_size_per_device: int = 0
    seed: int = 0
    label_smoothing: float = 0.0
    batch_stats: str = "clean"
    batch_stats_over: str = "batch"
    microbatches: int = 1
    init_from: str = ""
    ema_decay: float = 0.0
    eval_every_epochs: int = 1
    patience: int = 0
    checkpoint_every_steps: int = 0
    keep_last: int = 3
    keep_every_epochs: int = 0
    record_every_steps: int = 0
    sharpness_every_epochs: int = 0
    recheck_every_steps: int = 0
    stall_timeout: float = 1800.0
    tensorboard: bool = True
    wandb_project: str = ""
    fsdp: int = 1
    deterministic: bool = False
    distributed: bool = False

    def __post_init__(self) -> None:
        if self.epochs < (0 if self.init_from else 1):
            raise ValueError(
                "epochs must be at least 1, or with init_from 0 to evaluate only; got "
                f"{self.epochs}"
            )
        for field in ("batch_size", "microbatches", "eval_every_epochs", "keep_last", "fsdp"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in [0, 2**32), got {self.seed}")
        for field in ("label_smoothing", "ema_decay"):
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(f"{field} must be in [0, 1), got {getattr(self, field)}")
        check_choice("batch_stats", self.batch_stats, BATCH_STATS)
        check_choice("batch_stats_over", self.batch_stats_over, BATCH_STATS_OVER)
        for field in (
            *("checkpoint_every_steps", "keep_every_epochs", "record_every_steps", "patience"),
            *("batch_size_per_device", "sharpness_every_epochs", "recheck_every_steps"),
        ):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} must be >= 0, got {getattr(self, field)}")
        if not 0 <= self.stall_timeout < math.inf:
            raise ValueError(f"stall_timeout must be >= 0 seconds, got {self.stall_timeout}")
        if self.epochs and self.keep_every_epochs >= self.epochs:
            raise ValueError(
                f"keep_every_epochs={self.keep_every_epochs} has no effect: the run has "
                f"{self.epochs} epochs, and the last one is kept"
            )
        if self.epochs and self.sharpness_every_epochs > self.epochs:
            raise ValueError(
                f"sharpness_every_epochs={self.sharpness_every_epochs} has no effect: the run has "
                f"{self.epochs} epochs"
            )
        evaluations = -(-self.epochs // self.eval_every_epochs)
        if self.epochs and self.patience and self.patience >= evaluations - 1:
            raise ValueError(
                f"patience={self.patience} has no effect: the run is evaluated {evaluations} times"
            )


def default_config() -> Config:
    """A small wide ResNet on handwritten digits by VaSSO: what every config begins with.

    Returns:
        A locked ConfigDict whose sections are open: `config.method.rho = 0.1` adds an argument,
        `config.method = {"name": "sam"}` starts the section anew.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(RunOptions)}
    config: Config = ConfigDict(defaults)
    for section, name in SECTIONS.items():
        config[section] = {} if name is None else {"name": name}
    config.lock()
    for section in SECTIONS:
        config[section].unlock()
    return config


def with_fields(config: Config, fields: Mapping[str, Any]) -> Config:
    """A copy of the config with other values of some fields.

    Args:
        config: stays as it is; may be frozen.
        fields: values by dotted name, such as `method.rho`, set in this order.

    Raises:
        ValueError: there is no such section or field, or it cannot have this value.
    """
    changed: Config = ConfigDict(config).copy_and_resolve_references()  # not frozen
    for name, value in fields.items():
        *sections, last = name.split(".")
        try:
            functools.reduce(lambda section, key: section[key], sections, changed)[last] = value
        except (KeyError, TypeError) as error:
            # Of a KeyError, the text goes on with the whole config.
            reason = "" if isinstance(error, KeyError) else f" to {value!r} ({error})"
            raise ValueError(f"{name} cannot be set{reason}: see --help_config") from error
    return changed
