"""What main.py refuses: wrong input and damaged surroundings, each with one clear message."""

import json
import shutil
import time

import numpy as np
import pytest

from configs import digits_vasso
from tests import runs
from vasso_jax.train import UsageError, train


def refused(process, *messages):
    """The process must end with status 2 and one message, that has all `messages`."""
    status, out, err = runs.finish(process)
    assert status == 2, err
    assert err.startswith("error: "), err
    for message in messages:
        assert message in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("config", "overrides", "messages"),
    [
        (
            "digits_vasso",
            ["dataset=mnist", "data_dir=/nowhere"],
            ["/nowhere/mnist", "tfds.builder('mnist'", "digits_vasso"],
        ),
        ("digits_vasso", ["batch_size=129"], ["batch_size=129", "4 devices", "multiple of 4"]),
        ("digits_vasso", ["distributed=True"], ["could not join a cluster"]),
        # What is wrong with the command line itself.
        ("digits_vasso", ["thetta=1"], ["no field 'thetta'", "Did you mean theta"]),
        ("digits_vasso", ["optimizer.x=1"], ["no field 'optimizer.x'"]),
        ("digits_vasso", ["epochs=x"], ["--config.epochs=x"]),
        ("nothing", [], ["configs/nothing.py"]),
        ("cifar10_resnet18:vaso", [], ["Did you mean vasso"]),
        ("digits_vasso:sam", [], ["takes no argument"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_wrong_input_is_one_message_and_status_2(tmp_path, config, overrides, messages):
    began = time.monotonic()
    refused(runs.start(tmp_path / "run", *overrides, config=config, devices=4), *messages)
    assert time.monotonic() - began < 15
    assert not (tmp_path / "run/config.json").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "resnet81"}, "Did you mean resnet18"),
        ({"optimizer": "vaso"}, "Did you mean vasso"),
        ({"batch_size": 2000}, "exceeds the 1438 training images"),
        ({"rho": -1.0}, "rho must be.*>= 0"),
        ({"theta": 1.5}, r"theta must be.*\[0.0, 1.0\]"),
        # Found before the data set is asked for.
        ({"theta": 1.5, "dataset": "cifar10", "data_dir": "/dev/null"}, "theta must be"),
        ({"dataset": "cifar10", "data_dir": "/dev/null"}, "cannot work in /dev/null"),
        ({"dtype": "float16"}, "float32, bfloat16"),
        ({"seed": -1}, "seed must be"),
        ({"fsdp": 0}, "fsdp must be at least 1"),
        ({"fsdp": 3}, "fsdp=3 does not divide the 8 devices"),
        ({"epochs": 0}, "with init_from"),
        ({"init_from": "/nowhere"}, "no checkpoint in /nowhere/checkpoints"),
        ({"checkpoint_every_steps": -1}, "checkpoint_every_steps must be"),
        ({"wandb_project": "x"}, "needs the package wandb"),
        ({"dataset": "digit"}, "Did you mean digits"),
        ({"split_seed": -1}, "split_seed must be"),
        ({"cutout_probability": 2.0}, "cutout_probability must be"),
        ({"label_noise": "symetric"}, "Did you mean symmetric"),
        ({"label_noise": "symmetric", "label_noise_rate": 2.0}, "label_noise_rate must be"),
        ({"human_labels": "worse"}, "human_labels chooses the labels of cifar10_n"),
        ({"dataset": "cifar10_n"}, "human_labels chooses the labels of cifar10_n"),
        ({"dataset": "cifar10_n", "human_labels": "bad"}, "no human_labels 'bad'"),
        (
            {"dataset": "cifar10_n", "human_labels": "worse", "label_noise": "symmetric"},
            "human_labels are wrong enough",
        ),
        ({"dataset": "/tmp/x"}, "no name of a data set"),
        ({"dataset": ""}, "no name of a data set"),
        ({"dataset": "folder"}, "needs --config.data_dir"),
        ({"dataset": "folder", "data_dir": "/nowhere"}, "no class folders in /nowhere/train"),
        ({"dataset": "npz", "data_dir": "/nowhere"}, "no /nowhere/train.npz"),
        ({"image_size": 0}, "image_size must be"),
        ({"on_damaged": "ignore"}, "stop, skip"),
        ({"workers": -1}, "workers must be"),
    ],
    ids=str,
)
def test_wrong_fields_are_found_before_the_run_begins(tmp_path, fields, message):
    config = digits_vasso.get_config()
    config.update(fields)
    with pytest.raises(UsageError, match=message):
        train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run/config.json").exists()


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


@pytest.mark.parametrize(
    ("found_in", "options"),
    [
        ("a parameter", ("checkpoint_every_steps=1",)),
        ("the test loss", ("batch_size=718",)),
        ("the training loss", ()),
    ],
)
def test_divergence_is_one_message_and_leaves_finite_checkpoints_only(tmp_path, found_in, options):
    process = runs.start(tmp_path, "lr=1e30", "epochs=4", *options)
    refused(process, f"the run diverged: {found_in} is", "smaller lr")
    for step in runs.steps_saved(tmp_path):
        assert all(np.isfinite(x).all() for x in runs.checkpoint(tmp_path, step).values())
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_a_disk_that_cannot_hold_a_checkpoint_is_one_message(tmp_path):
    # No file may grow beyond 100 kB.
    limited = ("bash", "-c", 'ulimit -f 100; exec "$@"', "bash")
    environment = {"JAX_ENABLE_COMPILATION_CACHE": "0"}
    process = runs.start(tmp_path, *runs.SHORT, env=environment, prefix=limited)
    refused(process, "a checkpoint could not be written", "make room")


def test_damaged_run_folders_are_one_message(unbroken, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken[0], workdir)
    (workdir / "metrics.jsonl").unlink()
    refused(runs.start(workdir, *runs.SHORT), "metrics.jsonl ends at epoch 0")
    shutil.copy(unbroken[0] / "metrics.jsonl", workdir)
    shutil.rmtree(workdir / "checkpoints")
    refused(runs.start(workdir, *runs.SHORT, "rho=0.07"), "rho=0.1 there, 0.07 here")
    shutil.copytree(unbroken[0] / "checkpoints", workdir / "checkpoints", dirs_exist_ok=True)
    for path in (workdir / f"checkpoints/{runs.TOTAL_STEPS}").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    refused(runs.start(workdir, *runs.SHORT), "checkpoints", "cannot be")
