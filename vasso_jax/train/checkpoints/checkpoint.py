"""The checkpoints of a run (orbax): the latest and the best, written in the background."""

import contextlib
import logging
import os
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import absl.logging
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vasso_jax.names import expanded
from vasso_jax.runs import RunFolder
from vasso_jax.train.devices.sharding import in_order_of
from vasso_jax.train.errors import UsageError


class Checkpoints:
    """Saves and restores the train state under `DIRECTORY/STEP`."""

    def __init__(self, directory: pathlib.Path):
        """Lists the existing checkpoints.

        Args:
            directory: `RunFolder.checkpoints_path`.

        Raises:
            UsageError: the folder is damaged.
        """
        self._directory = directory.absolute()
        try:
            # Incomplete checkpoints of a killed process are removed in the background; where there
            # is nothing, no thread must look into a folder that may be gone.
            used = self._directory.is_dir() and any(self._directory.iterdir())
            latest = checkpoint_managers.LatestN(1)
            best = checkpoint_managers.BestN(
                get_metric_fn=_accuracy, n=1, keep_checkpoints_without_metrics=False
            )
            self._kept: list[checkpoint_managers.PreservationPolicy] = [latest, best]
            options = _options(self._kept, clean_up=used)
            self._manager = ocp.CheckpointManager(self._directory, options=options)
        except (ValueError, OSError) as error:
            raise UsageError(
                f"the checkpoints in {self._directory} cannot be listed: repair that folder, or "
                f"start in a new workdir.\n({_brief(error)})"
            ) from error

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint; None if there is none."""
        return self._manager.latest_step()

    def keep_every(self, steps: int) -> None:
        """From now on keeps the checkpoints of all multiples of `steps` for good."""
        self._kept.append(checkpoint_managers.EveryNSteps(steps))

    def best_step(self) -> int:
        """The step of the complete checkpoint of the best accuracy.

        Raises:
            UsageError: no checkpoint was evaluated.
        """
        step = self._manager.best_step()
        if step is None:
            raise UsageError(f"no checkpoint in {self._directory} was evaluated")
        return step

    def save(self, step: int, state: Any, top1: float | None = None) -> None:
        """Starts to write the state after `step` steps; blocks only while copying it to the host.

        Args:
            step: the number of optimizer steps taken.
            state: the train state; its buffers may be reused once this returns.
            top1: the accuracy that ranks this checkpoint, of the validation or else of the test;
                None (within an epoch): it is never the best.

        Raises:
            UsageError: this or the previous checkpoint could not be written.
        """
        metrics = None if top1 is None else {"top1": top1}
        content = ocp.args.Composite(state=ocp.args.StandardSave(state))
        try:
            with errors_only():
                if step == self._manager.latest_step():  # saved before it could be evaluated
                    self._manager.wait_until_finished()
                    self._manager.delete(step)
                self._manager.save(step, args=content, metrics=metrics)
        except Exception as error:  # orbax has no error type of its own for a failed write
            raise self._write_error(error) from error

    def restore(self, step: int, abstract_state: Any) -> Any:
        """The state of checkpoint `step`, placed as `abstract_state` says.

        Args:
            step: of a complete checkpoint.
            abstract_state: a pytree of ShapeDtypeStruct with shardings.

        Raises:
            UsageError: the checkpoint is damaged, or of another network or optimizer.
        """
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        try:
            state = self._manager.restore(step, args=args)["state"]
        except (MemoryError, jax.errors.JaxRuntimeError):
            raise  # not the fault of the files
        except Exception as error:  # damaged files raise many kinds of error
            others = [other for other in self._manager.all_steps() if other != step]
            way_out = f"delete that folder to resume at step {max(others)}, or " if others else ""
            raise UsageError(
                f"the checkpoint {self._directory / str(step)} cannot be read. If it is damaged, "
                f"{way_out}start in a new workdir.\n({_brief(error)})"
            ) from error
        return in_order_of(state, abstract_state)

    def wait(self) -> None:
        """Returns once everything saved is on disk.

        Raises:
            UsageError: a checkpoint could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # as in save
            raise self._write_error(error) from error

    def close(self) -> None:
        """Waits as `wait` does, and ends the background threads.

        Raises:
            UsageError: a checkpoint could not be written.
        """
        try:
            self._manager.close()
        except Exception as error:  # as in save
            raise self._write_error(error) from error

    def _write_error(self, error: Exception) -> UsageError:
        return UsageError(
            f"a checkpoint could not be written to {self._directory}: free some space, then run "
            f"the same command again to resume at the last complete one.\n({_brief(error)})"
        )


def find_checkpoint(run: str | os.PathLike[str], which: int | str = "last") -> pathlib.Path:
    """The folder of a complete checkpoint of a run.

    Args:
        run: the run folder, which another process may be using.
        which: `last`, the newest one; `best`, that of the best validation accuracy or, without a
            validation split, of the best test accuracy; or its step.

    Raises:
        FileNotFoundError: there is no such checkpoint; the message lists those that there are.
        ValueError: `which` is something else, or the checkpoints cannot be listed.
    """
    folder = RunFolder(expanded(run).absolute())
    steps = folder.saved_steps()
    if not steps:
        raise FileNotFoundError(f"{run} has no checkpoint in {folder.checkpoints_path}")
    if which == "last":
        step = steps[-1]
    elif which == "best":
        step = _best_step(folder.checkpoints_path)
        if step is None:
            raise FileNotFoundError(
                f"{run} has no best checkpoint, as none of them was evaluated: take `last`"
            )
    elif isinstance(which, int) and not isinstance(which, bool):
        step = which
    else:
        raise ValueError(f"which must be 'last', 'best' or a step, got {which!r}")
    if step not in steps:
        kept = ", ".join(map(str, steps))
        raise FileNotFoundError(f"{run} has no checkpoint of step {step}, only of {kept}")
    return folder.checkpoints_path / str(step)


def split_name(name: str) -> tuple[str, int | str]:
    """RUN, RUN@last, RUN@best or RUN@STEP as the arguments of `find_checkpoint`.

    A folder that has such a name is meant itself.
    """
    run, at, which = name.rpartition("@")
    named = at and (which in ("last", "best") or which.isdecimal())
    if not named or os.path.exists(os.path.expanduser(name)):
        return name, "last"
    return run, int(which) if which.isdecimal() else which


def _best_step(directory: pathlib.Path) -> int | None:
    try:
        with errors_only():
            options = ocp.CheckpointManagerOptions(read_only=True, best_fn=_accuracy)
            with ocp.CheckpointManager(directory, options=options) as manager:
                return manager.best_step()
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"the checkpoints in {directory} cannot be listed ({_brief(error)}): take `last`, or "
            "a step"
        ) from error


@contextlib.contextmanager
def errors_only() -> Iterator[None]:
    """Hides orbax's routine warnings in this thread."""
    here = threading.get_ident()

    def matters(record: Any) -> bool:
        return record.thread != here or record.levelno >= logging.ERROR

    logger = absl.logging.get_absl_logger()
    logger.addFilter(matters)
    try:
        yield
    finally:
        logger.removeFilter(matters)


def _options(
    kept: list[checkpoint_managers.PreservationPolicy], *, clean_up: bool
) -> ocp.CheckpointManagerOptions:
    return ocp.CheckpointManagerOptions(
        save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(kept),
        # The policy above does the ranking. But orbax writes the metrics to disk, where a restarted
        # process finds them, only if it is given this too.
        best_fn=_accuracy,
        cleanup_tmp_directories=clean_up,
    )


def _accuracy(metrics: dict[str, float]) -> float:
    (top1,) = metrics.values()
    return top1


def _brief(error: Exception) -> str:
    """The first line of an error, without the pages that storage libraries append."""
    return (
        f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300] if str(error) else ''}"
    )
