"""The state that a run begins with: a new one, weights from elsewhere, or its own checkpoint."""

import pathlib

from vasso_jax import runs
from vasso_jax.train.checkpoints.checkpoint import Checkpoints
from vasso_jax.train.checkpoints.healing import restore_first_whole
from vasso_jax.train.checkpoints.weights import start_from
from vasso_jax.train.errors import UsageError, usage_errors
from vasso_jax.train.goodput import Account
from vasso_jax.train.plan import Experiment
from vasso_jax.train.reporting.console import Display
from vasso_jax.train.steps.state import TrainState


def start_or_resume(
    experiment: Experiment,
    weights: pathlib.Path | None,
    checkpoints: Checkpoints,
    records: runs.RecordFile,
    folder: runs.RunFolder,
    display: Display,
    account: Account,
) -> TrainState:
    """The state to begin with; drops the records after it.

    Args:
        experiment: of the run.
        weights: the checkpoint of another run, for a run that has none yet; None: a new state.
        checkpoints: of the run. The newest that is whole is restored, and damaged ones are put
            aside.
        records: of the run.
        folder: of the run, with its config.json.
        display: is told of what was damaged.
        account: goes on with the times of the checkpoint.

    Raises:
        UsageError: no checkpoint is whole, or one cannot be read, or it is not of this run: of
            other settings or data, or with other records.
    """
    program = experiment.program
    if not (steps := checkpoints.steps()):
        state = program.create_state()
        if weights:
            state = start_from(weights, state, keep_head=not experiment.plan.options.epochs)
        account.resume([], records.records)
        with usage_errors():
            records.keep_until(-1)
        return state
    restored = restore_first_whole(checkpoints, steps[::-1], program.abstract_state)
    with usage_errors():
        runs.check_fingerprint(
            restored.about,
            restored.step,
            experiment.plan.settings,
            experiment.dataset_facts,
            records.records,
            folder.earlier_epochs(),
        )
        before = records.records
        records.keep_until(restored.step)
    kept = [restored.about.get("time", {}), *records.records]
    account.resume(kept, dropped=before[len(records.records) :])
    recorded = max((record["epoch"] for record in records.records), default=0)
    epoch = restored.step // program.steps_per_epoch if restored.step else 0
    if recorded != epoch:
        raise UsageError(
            f"metrics.jsonl ends at epoch {recorded}, the checkpoint of step {restored.step} "
            "is further: bring the file back, or start in a new workdir"
        )
    if restored.damaged:
        display.warn(restored.warning())
        seconds = records.records[-1]["seconds"] if records.records else 0.0
        healed = {"step": restored.step, "epoch": epoch, "split": "healed"}
        with usage_errors():
            records.append(healed | {"put_aside": restored.put_aside, "seconds": seconds})
    return restored.state


def check_nothing_lost(records: list[runs.Record]) -> None:
    """Refuses to start anew over results that a run in this folder had.

    Records of the first epoch may be left by a run that ended before its first checkpoint.
    """
    recorded = records[-1]["epoch"] if records else 0
    if recorded > 1:
        raise UsageError(
            f"metrics.jsonl holds {recorded} epochs, but there is no checkpoint: bring the folder "
            "checkpoints back, or start in a new workdir"
        )
