"""Fields out of range, of another type or without effect: found before a run begins."""

import optax
import pytest

from vasso_jax import optim
from vasso_jax.train import UsageError, check, train
from vasso_jax.train.presets import digits

SCHEDULE = optax.constant_schedule(0.1)


def sam_with_a_schedule(base, rho=SCHEDULE):
    """A method whose own rho is a schedule."""
    return optim.sam(base, rho)


def config(**fields):
    """The digits with VaSSO; `section__field` sets a field of a section."""
    config = digits("vasso")
    for name, value in fields.items():
        section, _, field = name.rpartition("__")
        (config[section] if section else config)[field] = value
    return config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model__name": "resnet81"}, "Did you mean resnet18"),
        *(
            ({section: {"name": value}}, rf"^{section}\.name must be text, got {text}$")
            for section in ("method", "base", "schedule", "model", "data")
            for value, text in (([], r"\[\]"), ({}, "{}"), (7, "7"))
        ),
        ({"model__dtype": "float16"}, "model.dtype 'float16'.*float32, bfloat16"),
        ({"method__name": "vaso"}, "Did you mean vasso"),
        ({"method__rho": -1.0}, "rho must be.*>= 0"),
        ({"method": {"name": "vasso", "rho": "x"}}, "method.rho must be a number"),
        ({"method__theta": 1.5}, r"theta must be.*\[0.0, 1.0\]"),
        ({"method__accumulator_dtype": "bfloat61"}, "Did you mean bfloat16"),
        ({"method__refresh_every": 0}, "refresh_every must be an integer >= 1"),
        ({"method__refresh_every": 12}, "refresh_every=12 exceeds the 11 steps of an epoch"),
        ({"method": {"name": "ssam", "density": 2.0}}, "density must be a number in"),
        ({"method": {"name": "ssam", "choice": "best"}}, "choice must be 'fisher' or 'random'"),
        ({"rho_schedule__rho_min": -0.1}, "rho_min must be a number >= 0"),
        (
            {"rho_schedule__rho_min": 0.5},
            r"^rho_schedule\.rho_min=0\.5 must not exceed method\.rho=0\.1$",
        ),
        ({"rho_schedule__rho_min": 0.1}, "^rho_schedule has no effect: .*are both 0.1"),
        (
            {"rho_schedule__rho_min": 0.01, "schedule__final_lr": 0.05},
            r"^rho_schedule has no effect: schedule\.final_lr and base\.lr are both 0\.05",
        ),
        ({"base__name": "adamww"}, "Did you mean adamw"),
        ({"base__momentum": 1.0}, "momentum must be in"),
        (
            {"base": {"name": "sgd", "momentum": 0.0, "nesterov": True}},
            "nesterov has no effect without momentum",
        ),
        ({"base__nesterov": 1}, "base.nesterov must be True or False"),
        ({"schedule__name": "cosin"}, "Did you mean cosine"),
        ({"schedule__warmup_epochs": 30.0}, "warmup_epochs must be in"),
        ({"schedule__warmup_epochs": 29.99}, "warmup_epochs=29.99 is 330 of the 330 steps"),
        (
            {"schedule": {"name": "multistep", "milestones": ()}},
            r"^schedule multistep: milestones=\(\) has no effect",
        ),
        (
            {"schedule": {"name": "multistep", "milestones": (5,), "decay_factor": 1.0}},
            "^schedule multistep: decay_factor=1 has no effect",
        ),
        # The section comes first.
        ({"method__rho": -0.2}, "^method vasso: rho must be"),
        ({"base__weight_decay": -1.0}, "^base sgd: weight_decay must be"),
        ({"schedule__warmup_epochs": 31.0}, "^schedule cosine: warmup_epochs must be"),
        ({"augment__crop_padding": -2}, "^augment: crop_padding must be"),
        # Found before the data set is asked for.
        (
            {"method__theta": 1.5, "data": {"name": "cifar10", "dir": "/dev/null"}},
            "theta must be",
        ),
        ({"data": {"name": "cifar10", "dir": "/dev/null"}}, "cannot work in /dev/null"),
        ({"batch_size": 2000}, "exceeds the 1438 training images"),
        # Numbers that nothing can be computed with.
        ({"epochs": 2**63}, "epochs must be an integer of 64 bits, got 92233720368"),
        ({"epochs": 2**31}, "epochs=2147483648 are 23622320128 steps: a run has fewer than 2"),
        (
            {"base__weight_decay": float("nan")},
            r"base\.weight_decay must be a finite number .* nan",
        ),
        ({"base__weight_decay": float("-inf")}, r"base\.weight_decay must be a finite number"),
        ({"base": {"name": "adam", "eps": float("inf")}}, r"base\.eps must be a finite number"),
        (
            {"method": {"name": "sam", "rho": 10**400}},
            r"method\.rho must be a finite number",
        ),
        ({"method__ascent_steps": 2**62}, "method.ascent_steps=4611686018427387904 are so many"),
        ({"method__active": float("nan")}, r"method\.active must be a finite number"),
        ({"label_smoothing": 1e39}, "label_smoothing must be a finite number that float32 can"),
        ({"data": {"name": "npz", "dir": "~nosuchuser/x"}}, "~nosuchuser/x begins with the home"),
        ({"augment__crop_padding": 8}, "crop_padding=8 gives crops without any of the image"),
        ({"augment__cutout_size": 9}, "cutout_size=9 exceeds the image of 8x8 pixels"),
        ({"batch_stats": "clear"}, "Did you mean clean"),
        ({"batch_stats_over": "devise"}, "Did you mean device"),
        ({"microbatches": 0}, "microbatches must be at least 1, got 0"),
        (
            {"batch_size": 128, "microbatches": 3},
            "batch_size=128 cannot be divided over 3 microbatches on 8 devices: choose a multiple "
            "of 24",
        ),
        ({"label_smoothing": 1.0}, "label_smoothing must be in"),
        ({"seed": -1}, "seed must be"),
        ({"fsdp": 0}, "fsdp must be at least 1"),
        ({"fsdp": 3}, "fsdp=3 does not divide the 8 devices"),
        ({"epochs": 0}, "with init_from"),
        ({"init_from": "/nowhere"}, "no checkpoint in /nowhere/checkpoints"),
        ({"checkpoint_every_steps": -1}, "checkpoint_every_steps must be"),
        ({"recheck_every_steps": -1}, "recheck_every_steps must be"),
        ({"epochs": 2, "recheck_every_steps": 23}, "recheck_every_steps=23 has no effect: the run"),
        (
            {"epochs": 2, "checkpoint_every_steps": 22},
            "checkpoint_every_steps=22 has no effect: the run has 22 steps",
        ),
        ({"wandb_project": "x"}, "needs the package wandb"),
        ({"data": {"name": "digit"}}, "Did you mean digits"),
        ({"data__split_seed": -1}, "split_seed must be"),
        ({"data": {"name": "cifar10_n"}}, "human_labels chooses the labels of cifar10_n"),
        (
            {"data": {"name": "mnist", "human_labels": "worse"}},
            "human_labels chooses the labels of cifar10_n",
        ),
        ({"data": {"name": "cifar10_n", "human_labels": "bad"}}, "no human_labels 'bad'"),
        (
            {
                "data": {"name": "cifar10_n", "human_labels": "worse"},
                "label_noise": {"kind": "symmetric", "rate": 0.1},
            },
            "label noise cannot be added to human_labels",
        ),
        ({"data": {"name": "/tmp/x"}}, "no name of a data set"),
        ({"data": {"name": ""}}, "no name of a data set"),
        ({"data": {"name": "folder"}}, "data folder needs dir: give --config.data.dir"),
        ({"data": {"name": "folder", "dir": "/nowhere"}}, "no class folders in /nowhere/train"),
        ({"data": {"name": "npz", "dir": "/nowhere"}}, "no /nowhere/train.npz"),
        ({"data": {"name": "folder", "dir": "/", "image_size": 0}}, "image_size must be"),
        ({"data": {"name": "folder", "dir": "/", "on_damaged": "ignore"}}, "stop, skip"),
        ({"data": {"name": "folder", "dir": "/", "workers": -1}}, "workers must be"),
        ({"augment__cutout_probability": 0.3}, "has no effect while cutout_size is 0"),
        ({"augment__cutout_size": 1}, "cutout_size=1 makes no hole"),
        (
            {"augment": {"cutout_size": 4, "cutout_probability": 0.0}},
            "cutout_size=4 has no effect while cutout_probability is 0",
        ),
        ({"augment__cutout_probability": 2.0}, "cutout_probability must be"),
        ({"augment__crop_padding": -1}, "crop_padding must be"),
        ({"augment__policy": "trivial"}, "Did you mean trivialaugment"),
        ({"augment__magnitude": 5}, "magnitude=5 has no effect without policy=randaugment"),
        ({"augment__mixup_alpha": -1.0}, "mixup_alpha must be a finite number"),
        ({"label_noise": {"kind": "symetric", "rate": 0.1}}, "Did you mean symmetric"),
        ({"label_noise": {"kind": "symmetric", "rate": 2.0}}, "rate of label noise must be"),
        ({"label_noise": {"kind": "symmetric"}}, "label_noise needs rate"),
        ({"label_noise": {"name": "symmetric"}}, "label_noise has no name"),
        ({"augment__name": "strong"}, "augment has no name"),
        ({"rho_schedule__name": "x"}, "rho_schedule has no name"),
        (
            {"rho_schedule__rho_min": 0.01, "schedule__name": "constant"},
            "rho_schedule has no effect with a constant learning rate",
        ),
        (
            {"method": {"name": "sam", "accumulator_dtype": "bfloat16"}},
            "accumulator_dtype has no effect without refresh_every",
        ),
        ({"window__start_epoch": 30}, r"start_epoch must be in \[0, epochs\), got 30.0 of 30"),
        ({"window__end_epoch": 31}, "is after the end of the run"),
        ({"window__end_epoch": "x"}, "end_epoch must be a number"),
        ({"window__start_epoch": 5, "window__end_epoch": 5}, "must be after start_epoch=5"),
        ({"window__start_epoch": 0}, "a window over the whole run has no effect"),
        (
            {"window__start_epoch": 5, "method": {"name": "looksam"}},
            "window has no effect: method looksam has no active",
        ),
        (
            {"window__start_epoch": 5, "method": {"name": "vasso", "active": (1, 2)}},
            "window and method.active say the same",
        ),
        ({"method": {"name": "vasso", "active": "late"}}, r"active must be \(start, end\)"),
        ({"method": {"name": "vasso", "refresh": "dscent"}}, "refresh must be 'clean' or"),
        (
            {"method": {"name": "momentum_sam"}, "base": {"name": "sgd", "momentum": 0.0}},
            "needs a base with one momentum",
        ),
        ({"method": {"name": "wsam", "learning_rate": 0.1}}, "learning_rate cannot be set"),
        (
            {"method": {"name": "wsam"}, "base__clip_norm": 1.0},
            r"base\.clip_norm does not reach the decoupled sharpness",
        ),
        ({"window__start_epoch": 0.01}, "a window over the whole run has no effect"),
        ({"method": {"name": "wsam", "gamma": 1.0}}, r"gamma must be a number in \[0\.0, 1\.0\)"),
        ({"data": {"name": "folder", "dir": 3}}, "data.dir must be a string"),
        ({"base": {"name": "sgd", "lr": abs}}, "base.lr must be a number"),
    ],
    ids=str,
)
def test_wrong_fields_are_found_before_the_run_begins(tmp_path, fields, message):
    with pytest.raises(UsageError, match=message):
        train(config(**fields), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "method",
    [
        lambda: {"name": "vasso", "rho": optax.constant_schedule(0.1)},
        lambda: {"name": "tests.train.config.test_refusals:sam_with_a_schedule"},
    ],
)
def test_two_schedules_of_rho_are_one_message(method):
    fields = {"rho_schedule__rho_min": 0.0, "method": method()}
    with pytest.raises(
        ValueError, match=r"needs a number as method\.rho.*leave out one of the two"
    ):
        check(config(**fields))
