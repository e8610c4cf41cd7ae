"""Runs of main.py as a user starts them: in processes of their own."""

import json
import os
import pathlib
import random
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp

from tests.train.networks import SMALL
from vasso_jax.runs import OF_TIME, RunFolder

ROOT = pathlib.Path(__file__).parents[1]
# Differ from run to run.
TIMES = {"seconds", "images_per_second", *OF_TIME}
# Two epochs of digits, saved often: the run that most tests start, stop or damage.
SHORT = (SMALL, "epochs=2", "checkpoint_every_steps=3")
TOTAL_STEPS = 22


def arguments(workdir, *overrides, config="digits_vasso"):
    """Those of main.py, with `--config.OVERRIDE` for each of `overrides`.

    `config` is a name in configs/, perhaps with :METHOD, or a path without its .py.
    """
    name, *method = config.split(":", 1) if isinstance(config, str) else (config,)
    return [
        ":".join([f"--config={ROOT / 'configs' / name}.py", *method]),
        f"--workdir={workdir}",
        *(f"--config.{override}" for override in overrides),
    ]


def start(workdir, *overrides, config="digits_vasso", devices=1, env=None, prefix=(), flags=()):
    """Starts main.py with its `arguments` and further `flags`; returns the Popen."""
    main = (*prefix, sys.executable, str(ROOT / "main.py"))
    return subprocess.Popen(
        [*main, *arguments(workdir, *overrides, config=config), *flags],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)} | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(workdir, *overrides, each=((), ())):
    """Two processes of two devices each, as Slurm would start them; returns both.

    `each` has the overrides of one of them only.
    """
    # JAX finds the coordinator in these variables.
    slurm = {
        "SLURM_JOB_ID": str(random.randrange(1, 4096)),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
    }
    return [
        start(
            workdir,
            *overrides,
            *each[i],
            "distributed=True",
            devices=2,
            env=slurm | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)},
        )
        for i in range(2)
    ]


def finish(process, timeout=300):
    """Waits for the end; returns (exit status, standard output, standard error)."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def run(workdir, *overrides, **kwargs):
    """A run that must succeed; returns (result of the last line, standard output)."""
    status, out, err = finish(start(workdir, *overrides, **kwargs))
    assert status == 0, err
    return json.loads(out.splitlines()[-1]), out


def records(workdir):
    """metrics.jsonl without the fields that measure time."""
    records = RunFolder(workdir).records()
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


def checkpoint(workdir, step):
    """All arrays of a checkpoint, by path."""
    path = (pathlib.Path(workdir) / "checkpoints" / str(step) / "state").absolute()
    with ocp.PyTreeCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata)
        tree = checkpointer.restore(path, restore_args=as_numpy)
    flat = ocp.tree.to_flat_dict(tree)
    return {"/".join(key): np.asarray(value) for key, value in flat.items()}


def steps_saved(workdir):
    """The steps of all complete checkpoints."""
    return RunFolder(workdir).saved_steps()
