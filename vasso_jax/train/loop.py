"""The life of a run: check everything, resume or start, train, evaluate, record, save, report.

What holds throughout:
- Whatever the person can get wrong is found before the first step, as a UsageError.
- All randomness follows from the seed and the step; the train state and metrics.jsonl are the only
  memory. So a resumed run takes the very steps that an unbroken one would have taken.
- A record is on disk before the checkpoint of its step.
- The host looks at the device about once a second, not at every step.
"""

import json
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from jax.experimental import multihost_utils

from vasso_jax import data
from vasso_jax.analysis.curves import plot_curves
from vasso_jax.train import workdir as workdirs
from vasso_jax.train.checkpoint import Checkpoints
from vasso_jax.train.console import Display
from vasso_jax.train.dashboards import open_dashboards
from vasso_jax.train.errors import UsageError, usage_errors
from vasso_jax.train.experiment import Experiment, build
from vasso_jax.train.fit import Fit
from vasso_jax.train.records import RecordFile, of_test
from vasso_jax.train.state import TrainState
from vasso_jax.train.weights import latest_checkpoint, start_from


def train(config: Any, workdir: str) -> dict[str, Any]:
    """Runs the experiment `config` in the folder `workdir`, from where it stopped if it did.

    Args:
        config: an ml_collections.ConfigDict with the fields of configs/default.py.
        workdir: gets config.json, metrics.jsonl, curves.png and checkpoints/.

    Returns:
        {"test_top1", "best_test_top1", "test_loss", "epochs", "steps", "seconds", "workdir"};
        accuracies in 0..1, the first of the last epoch; seconds spent in training and evaluation up
        to there, over all starts of the run.

    Raises:
        UsageError: bad config, missing data, unusable workdir, damaged checkpoint, full disk, or
            divergence.
        Stopped: by SIGINT or SIGTERM, after saving; the same call goes on from there.
    """
    if config.distributed:
        _join_cluster()
    display = Display(enabled=_is_first_process())
    path = pathlib.Path(workdir).expanduser().absolute()
    settings = config.to_dict()
    _on_first_process(lambda: workdirs.check(path, settings))
    with usage_errors():
        records = RecordFile(path, writable=_is_first_process())
    checkpoints = Checkpoints(path)
    try:
        finished = _has_finished(config.epochs, checkpoints, records)
        if finished:
            display.note("this run has finished; nothing to do")
        else:

            def fetch() -> None:
                _on_first_process(
                    lambda: data.prepare_if_missing(
                        config.dataset, config.data_dir, display.console
                    )
                )
                display.note(f"reading {config.dataset} ...")

            with usage_errors():
                weights = None
                if config.init_from and checkpoints.latest_step() is None:
                    weights = latest_checkpoint(config.init_from)
                experiment = _on_all_processes(lambda: build(config, before_reading=fetch))

            def open_folder() -> None:
                dashboards = open_dashboards(
                    path,
                    settings,
                    tensorboard=config.tensorboard,
                    wandb_project=config.wandb_project,
                )
                records.show_on(dashboards)
                workdirs.write_facts(path, settings, experiment.dataset_facts)

            _on_first_process(open_folder)
            state = _start_or_resume(experiment, weights, checkpoints, records, display)
            fit = Fit(experiment, state, checkpoints, records, display)
            if int(state.step) < experiment.total_steps:
                fit.run()
            else:
                fit.evaluate_only()
        return _report(path, records, display, draw=not finished)
    finally:
        display.stop()
        records.close()
        checkpoints.close()


def _is_first_process() -> bool:
    return jax.process_index() == 0


def _on_first_process(action: Callable[[], None]) -> None:
    """Runs `action` on the first process only, and stops all of them if it fails."""
    failure = None
    if _is_first_process():
        try:
            action()
        except (ValueError, OSError) as error:
            failure = error
    if jax.process_count() > 1:
        failed = multihost_utils.broadcast_one_to_all(np.bool_(failure is not None))
        if failed and not failure:
            raise UsageError("the first process could not set the run up; see its message")
    if failure:
        raise UsageError(str(failure)) from failure


def _on_all_processes(build_experiment: Callable[[], Experiment]) -> Experiment:
    """Builds it on every process, and stops all of them if that fails on one or data differ."""
    experiment = failure = None
    try:
        experiment = build_experiment()
        facts = json.dumps(experiment.dataset_facts)
        seen = zlib.crc32(facts.encode()) & 0x7FFFFFFF  # JAX has 32 bits, and -1 means none
    except (ValueError, OSError) as error:
        failure, seen = error, -1
    all_seen = [seen]
    if jax.process_count() > 1:
        all_seen = multihost_utils.process_allgather(np.int32(seen)).tolist()
    if failure:
        raise failure
    assert experiment
    if -1 in all_seen:
        raise UsageError("another process could not set the run up; see its message")
    if len({*all_seen}) > 1:
        raise UsageError(
            f"the hosts see different data sets as {experiment.dataset_facts['name']}: give all of "
            "them the same data_dir, with the same content"
        )
    return experiment


def _has_finished(epochs: int, checkpoints: Checkpoints, records: RecordFile) -> bool:
    tests = of_test(records.records)
    return (
        bool(tests)
        and tests[-1]["epoch"] == epochs
        and tests[-1]["step"] == checkpoints.latest_step()
    )


def _join_cluster() -> None:
    try:
        jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"distributed=True, but this process could not join a cluster ({error}): start one "
            "process a GPU under Slurm or Open MPI, one a host on a TPU pod or under Kubernetes; "
            "or leave the field out on a single machine"
        ) from error


def _start_or_resume(
    experiment: Experiment,
    weights: pathlib.Path | None,
    checkpoints: Checkpoints,
    records: RecordFile,
    display: Display,
) -> TrainState:
    """The state to go on from; prints the opening block."""
    step = checkpoints.latest_step()
    if step is None:
        state = experiment.create_state()
        if weights:
            state = start_from(weights, state, keep_head=not experiment.epochs)
    else:
        state = checkpoints.restore(step, experiment.abstract_state)
    with usage_errors():
        records.keep_until(-1 if step is None else step)
    recorded = records.records[-1]["epoch"] if records.records else 0
    if step and recorded != step // experiment.steps_per_epoch:
        raise UsageError(
            f"metrics.jsonl ends at epoch {recorded}, the checkpoint of step {step} is further: "
            "bring the file back, or start in a new workdir"
        )

    kind = experiment.mesh.devices.flat[0].device_kind
    hosts = f" on {jax.process_count()} hosts" if jax.process_count() > 1 else ""
    parts = experiment.mesh.shape["fsdp"]
    spread = f", parameters over {parts}" if parts > 1 else ""
    start = f"going on from step {step} of " if step else ""
    length = f"{experiment.epochs} epochs of {experiment.steps_per_epoch}"
    display.opening(
        {
            "devices": f"{experiment.mesh.size} x {kind}{hosts}{spread}",
            "data": experiment.dataset_words,
            "model": f"{experiment.model_name}, "
            f"{parameter_overview.count_parameters(state.params):,} parameters",
            "optimizer": experiment.optimizer_words,
            "steps": f"{start}{experiment.total_steps} = {length}" if experiment.epochs else "none",
            **({"weights": f"from {weights}"} if weights else {}),
        }
    )
    return state


def _report(
    workdir: pathlib.Path, records: RecordFile, display: Display, draw: bool
) -> dict[str, Any]:
    """Draws the curves, prints the closing table, and returns the result of a finished run."""
    display.stop()
    tests = of_test(records.records)
    result = {
        "test_top1": tests[-1]["top1"],
        "best_test_top1": max(record["top1"] for record in tests),
        "test_loss": tests[-1]["loss"],
        "epochs": tests[-1]["epoch"],
        "steps": tests[-1]["step"],
        "seconds": tests[-1]["seconds"],
        "workdir": str(workdir),
    }
    picture = workdir / "curves.png"
    # A run killed after its last checkpoint has none yet.
    if _is_first_process() and (draw or not picture.exists()):
        with usage_errors():
            plot_curves(records.records, picture, workdir.name)
    display.closing(
        {
            "test top-1, last epoch": f"{result['test_top1']:.4f}",
            "test top-1, best epoch": f"{result['best_test_top1']:.4f}",
            "test loss, last epoch": f"{result['test_loss']:.4f}",
            "epochs, steps": f"{result['epochs']}, {result['steps']:,}",
            "time": f"{result['seconds']:.1f} s",
            "workdir": str(workdir),
        }
    )
    return result
