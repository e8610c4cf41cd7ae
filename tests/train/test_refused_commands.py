"""What main.py refuses: wrong input and a damaged environment, each with one clear message."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import runs
from tests.train.networks import SMALL


def refused(process, *messages):
    """The process must end with status 2 and one message, that has all `messages`."""
    is_refusal(*runs.finish(process), *messages)


def is_refusal(status, out, err, *messages):
    assert status == 2, err
    assert err.startswith("error: "), err
    for message in messages:
        assert message in err
    assert "Traceback" not in out + err


# Reads a command a line, and answers with its exit status. Each runs in a copy of this process,
# which has loaded everything already: that is what takes longest where a command is refused.
SERVER = """
import json, os, sys
import vasso_jax.cli.train, vasso_jax.train.plan
from vasso_jax.cli.main import run

for line in sys.stdin:
    arguments, *files = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    for number, path in enumerate(files, start=1):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), number)
    sys.argv = ["main.py", *arguments]  # which is also read by ml_collections
    run("train")
    sys.exit()
"""


@pytest.fixture(scope="module")
def server():
    """Runs a command of main.py on four devices: arguments -> exit status, output, errors."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=runs.ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "4"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # JAX warns of every copy
        text=True,
    )

    def answer(arguments, folder):
        files = folder / "out", folder / "err"
        print(json.dumps([arguments, *map(str, files)]), file=process.stdin, flush=True)
        return int(process.stdout.readline()), *(path.read_text() for path in files)

    yield answer
    process.communicate()


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
        ("digits_vasso", ["method.microbatches=2"], ["each batch whole", "--config.microbatches"]),
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
def test_wrong_input_is_one_message_and_status_2(server, tmp_path, config, overrides, messages):
    began = time.monotonic()
    arguments = runs.arguments(tmp_path / "run", *overrides, config=config)
    is_refusal(*server(arguments, tmp_path), *messages)
    assert time.monotonic() - began < 15
    assert not (tmp_path / "run/config.json").exists()


@pytest.mark.slow
def test_a_flag_without_its_section_is_named(tmp_path):
    for flag, message in (
        ("--epochs=5", "--config.epochs?"),
        ("--theta=1", "--config.method.theta?"),
    ):
        refused(
            runs.start(tmp_path / "run", flags=[flag]), f"no flag {flag.split('=')[0]}", message
        )
    refused(runs.start(tmp_path / "run", flags=["--config="]), "give an experiment, as --config=")


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
        # What float32 does not hold comes out of the first step.
        ("params/", ("checkpoint_every_steps=1", "base.lr=1e38", "base.weight_decay=1e3")),
        ("the test loss is", ("batch_size=1436",)),
        ("the training loss is", ()),
    ],
)
def test_divergence_is_one_message_and_leaves_finite_checkpoints_only(tmp_path, found_in, options):
    process = runs.start(tmp_path, SMALL, "base.lr=1e30", "epochs=4", *options)
    refused(process, f"the run diverged: {found_in}", "smaller base.lr")
    for step in runs.steps_saved(tmp_path):
        assert all(np.isfinite(x).all() for x in runs.checkpoint(tmp_path, step).values())
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["cuda", "none_such"])
def test_a_platform_that_is_not_there_is_one_message(tmp_path, platform):
    process = runs.start(tmp_path, SMALL, env={"JAX_PLATFORMS": platform})
    refused(process, "JAX finds no devices", f"unset JAX_PLATFORMS={platform}")


@pytest.mark.slow
def test_a_disk_that_cannot_hold_a_checkpoint_is_one_message(tmp_path):
    # No file may grow beyond 30 kB, less than one array of the network.
    limited = ("bash", "-c", 'ulimit -f 30; exec "$@"', "bash")
    environment = {"JAX_ENABLE_COMPILATION_CACHE": "0"}
    wide = (*runs.SHORT, "model.features=1024")
    process = runs.start(tmp_path, *wide, env=environment, prefix=limited)
    refused(process, "a checkpoint could not be written", "allow larger files")


@pytest.mark.slow
def test_damaged_run_folders_are_one_message(unbroken, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken[0], workdir)
    (workdir / "metrics.jsonl").unlink()
    refused(
        runs.start(workdir, *runs.SHORT),
        "metrics.jsonl was changed since the checkpoint of step 22 was written, with 4",
    )
    shutil.copy(unbroken[0] / "metrics.jsonl", workdir)
    shutil.rmtree(workdir / "checkpoints")
    refused(runs.start(workdir, *runs.SHORT, "method.rho=0.07"), "method.rho=0.1 there, 0.07 here")
