"""What main.py refuses: wrong input and a damaged environment, each with one clear message."""

import json
import shutil
import time

import numpy as np
import optax
import pytest

from tests import runs
from vasso_jax import optim
from vasso_jax.train import UsageError, check, train
from vasso_jax.train.presets import digits


def refused(process, *messages):
    """The process must end with status 2 and one message, that has all `messages`."""
    status, out, err = runs.finish(process)
    assert status == 2, err
    assert err.startswith("error: "), err
    for message in messages:
        assert message in err
    assert "Traceback" not in out + err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "overrides", "messages"),
    [
        (
            "digits_vasso",
            ["data.name=mnist", "data.dir=/nowhere"],
            ["/nowhere/mnist", "tfds.builder('mnist'", "digits_vasso"],
        ),
        ("digits_vasso", ["batch_size=129"], ["batch_size=129", "4 devices", "multiple of 4"]),
        ("digits_vasso", ["distributed=True"], ["could not join a cluster"]),
        # What is wrong with the command line itself.
        ("digits_vasso", ["epoch=1"], ["no field 'epoch'", "Did you mean epochs"]),
        ("digits_vasso", ["theta=1"], ["no field 'theta'", "--config.method.theta?"]),
        ("digits_vasso", ["lr=1"], ["no field 'lr'", "--config.base.lr?"]),
        ("digits_vasso", ["epochs.x=1"], ["no field 'epochs.x'"]),
        ("digits_vasso", ["method=sam"], ["a section", "--config.method.name=..."]),
        ("digits_vasso", ["augment=1"], ["a section", "--config.augment.FIELD=..."]),
        ("digits_vasso", ["epochs=x"], ["--config.epochs=x"]),
        ("digits_vasso", ["method.rho.x=1"], ["--config.method.rho.x cannot be set"]),
        ("digits_vasso", ["method.mask.a=True"], ["--config.method.mask.a cannot be set"]),
        # Fields that the chosen name does not have.
        ("digits:sam", ["method.theta=0.4"], ["method sam has no theta", "vasso", "FILE.py:sam"]),
        ("digits_vasso", ["method.name=sam"], ["method sam has no theta", "FILE.py:sam"]),
        ("digits_vasso", ["method.thetta=1"], ["has no thetta", "Did you mean theta"]),
        ("digits_vasso", ["base.b1=0.9"], ["base sgd has no b1", "momentum"]),
        ("digits_vasso", ["schedule.milestones=(5,)"], ["schedule cosine has no milestones"]),
        ("digits_vasso", ["model.width=2"], ["model wrn10_1 has no width"]),
        ("digits_vasso", ["data.dir=/"], ["data digits has no dir"]),
        ("digits:none", ["rho_schedule.rho_min=0.1"], ["method none has no rho"]),
        (
            "digits:none",
            ["method.rho=0.1"],
            ["method none has no rho (set in the config, or by --config.method.rho)", "sam"],
        ),
        ("digits_vasso", ["method.microbatches=2"], ["takes each batch whole"]),
        # Names of one's own.
        ("digits_vasso", ["model.name=nowhere.nets:Net"], ["no module nowhere"]),
        ("digits_vasso", ["model.name=examples.own_network:SmalCNN"], ["Did you mean SmallCNN"]),
        ("digits_vasso", ["data.name=json:dumps"], ["data json:dumps needs"]),
        ("digits:nowhere:vasso", [], ["method 'nowhere:vasso': there is no module nowhere"]),
        # The config itself.
        ("nothing", [], ["configs/nothing.py"]),
        ("digits:vaso", [], ["Did you mean vasso"]),
        ("cifar10_resnet18:vaso", [], ["Did you mean vasso"]),
        ("digits_vasso:sam", [], ["takes no method"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_wrong_input_is_one_message_and_status_2(tmp_path, config, overrides, messages):
    began = time.monotonic()
    refused(runs.start(tmp_path / "run", *overrides, config=config, devices=4), *messages)
    assert time.monotonic() - began < 15
    assert not (tmp_path / "run/config.json").exists()


def sam_with_a_schedule(base, rho=optax.constant_schedule(0.1)):  # noqa: B008
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
        ({"batch_stats": "clear"}, "Did you mean clean"),
        ({"label_smoothing": 1.0}, "label_smoothing must be in"),
        ({"seed": -1}, "seed must be"),
        ({"fsdp": 0}, "fsdp must be at least 1"),
        ({"fsdp": 3}, "fsdp=3 does not divide the 8 devices"),
        ({"epochs": 0}, "with init_from"),
        ({"init_from": "/nowhere"}, "no checkpoint in /nowhere/checkpoints"),
        ({"checkpoint_every_steps": -1}, "checkpoint_every_steps must be"),
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
        lambda: {"name": "tests.train.test_refusals:sam_with_a_schedule"},
    ],
)
def test_two_schedules_of_rho_are_one_message(method):
    fields = {"rho_schedule__rho_min": 0.0, "method": method()}
    with pytest.raises(
        ValueError, match=r"needs a number as method\.rho.*leave out one of the two"
    ):
        check(config(**fields))


def test_a_flag_without_its_section_is_named(tmp_path):
    for flag, message in (
        ("--epochs=5", "--config.epochs?"),
        ("--theta=1", "--config.method.theta?"),
    ):
        refused(
            runs.start(tmp_path / "run", flags=[flag]), f"no flag {flag.split('=')[0]}", message
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def get_config(: pass", "SyntaxError"),
        ("import nowhere", "nowhere"),
        ("x = 1", "get_config"),
        ("from ml_collections import ConfigDict as get_config", "the config lacks"),
    ],
)
def test_a_broken_config_file_is_one_message(tmp_path, code, message):
    (tmp_path / "broken.py").write_text(code)
    refused(runs.start(tmp_path / "run", config=tmp_path / "broken"), message)


def test_an_unwritable_workdir_is_one_message(tmp_path):
    occupied = tmp_path / "file"
    occupied.touch()
    refused(runs.start(occupied), "cannot be written")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("found_in", "options"),
    [
        ("a parameter", ("checkpoint_every_steps=1",)),
        ("the test loss", ("batch_size=718",)),
        ("the training loss", ()),
    ],
)
def test_divergence_is_one_message_and_leaves_finite_checkpoints_only(tmp_path, found_in, options):
    process = runs.start(tmp_path, "base.lr=1e30", "epochs=4", *options)
    refused(process, f"the run diverged: {found_in} is", "smaller base.lr")
    for step in runs.steps_saved(tmp_path):
        assert all(np.isfinite(x).all() for x in runs.checkpoint(tmp_path, step).values())
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


@pytest.mark.slow
def test_a_disk_that_cannot_hold_a_checkpoint_is_one_message(tmp_path):
    # No file may grow beyond 100 kB.
    limited = ("bash", "-c", 'ulimit -f 100; exec "$@"', "bash")
    environment = {"JAX_ENABLE_COMPILATION_CACHE": "0"}
    process = runs.start(tmp_path, *runs.SHORT, env=environment, prefix=limited)
    refused(process, "a checkpoint could not be written", "free some space")


@pytest.mark.slow
def test_damaged_run_folders_are_one_message(unbroken, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken[0], workdir)
    (workdir / "metrics.jsonl").unlink()
    refused(runs.start(workdir, *runs.SHORT), "metrics.jsonl ends at epoch 0")
    shutil.copy(unbroken[0] / "metrics.jsonl", workdir)
    shutil.rmtree(workdir / "checkpoints")
    refused(runs.start(workdir, *runs.SHORT, "method.rho=0.07"), "method.rho=0.1 there, 0.07 here")
    shutil.copytree(unbroken[0] / "checkpoints", workdir / "checkpoints", dirs_exist_ok=True)
    for path in (workdir / f"checkpoints/{runs.TOTAL_STEPS}").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    refused(runs.start(workdir, *runs.SHORT), "checkpoints", "cannot be")
