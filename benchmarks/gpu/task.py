"""One process of the GPU benchmark."""

import dataclasses
import json
import pathlib
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.harness.processes import ROOT
from benchmarks.harness.results import write_json
from vasso_jax.runs import RunFolder

LIMIT = 8 * 60  # seconds per process, except for training
_GRACE = 60  # seconds to save after SIGTERM


@dataclasses.dataclass(frozen=True)
class Task:
    """What to run.

    Attributes:
        name: of its file in the results folder, without .json.
        command: writes that file, or prints the result of main.py as its last line.
        seconds: expected minimum duration; the task is not started with less time left.
        resumes: whether the same command resumes where it was stopped.
    """

    name: str
    command: list[str]
    seconds: int = 30
    resumes: bool = False


def run(task: Task, out: pathlib.Path, environment: Mapping[str, str], limit: float) -> bool:
    """Runs a task to its end, or stops it, and prints a line.

    Args:
        task: what to run.
        out: folder of the results.
        environment: of the process.
        limit: maximum duration in seconds.

    Returns:
        Whether its file exists, or the task will resume next time.
    """
    runs = out / "runs"
    runs.mkdir(exist_ok=True)
    result, errors = out / f"{task.name}.json", runs / f"{task.name}.err"
    print(f"{task.name} ...", end=" ", flush=True)
    start = time.monotonic()
    with errors.open("w") as sink:
        process = subprocess.Popen(
            task.command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=sink, text=True
        )
        try:
            printed, _ = process.communicate(timeout=max(1.0, limit - _GRACE * task.resumes))
        except subprocess.TimeoutExpired:
            _stop(process)
            print("resumes next time" if task.resumes else "stopped: took too long", flush=True)
            return task.resumes
    seconds = time.monotonic() - start
    if process.returncode == 0 and not result.exists():
        write_json(result, _of_training(printed))
    print(f"{seconds:.0f} s" if result.exists() else "failed", flush=True)
    return result.exists()


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _of_training(printed: str) -> dict[str, Any]:
    """main.py's result, with the records and settings of its run."""
    result = json.loads(printed.splitlines()[-1])
    folder = RunFolder(result.pop("workdir"))
    return {**result, "config": folder.settings(), "records": folder.records()}
