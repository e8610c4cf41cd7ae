"""The checkpoints of a run (orbax): the newest and the best, written in the background."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vasso_jax.names import expanded
from vasso_jax.runs import RunFolder, by_rank, sync_folder
from vasso_jax.train.checkpoints import about
from vasso_jax.train.checkpoints.causes import brief, unwritable
from vasso_jax.train.checkpoints.logs import errors_only
from vasso_jax.train.checkpoints.reading import Contents, choose_all, read
from vasso_jax.train.devices import processes
from vasso_jax.train.devices.sharding import in_order_of
from vasso_jax.train.errors import UsageError


class Checkpoints:
    """Saves and restores the train state under `DIRECTORY/STEP`.

    Attributes:
        directory: the absolute path.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        keep_last: int = 1,
        ranked: Callable[[Sequence[int]], list[int]] = lambda steps: [],
    ):
        """Lists the existing checkpoints.

        Args:
            directory: `RunFolder.checkpoints_path`.
            keep_last: how many of the newest are kept, besides the best.
            ranked: of some steps those that were evaluated, the best first.

        Raises:
            UsageError: the folder cannot be listed.
        """
        self.directory = directory.absolute()
        self._ranked = ranked
        self._written: int | None = None  # the newest, while it may not be durable
        latest = checkpoint_managers.LatestN(keep_last)
        self._kept: list[checkpoint_managers.PreservationPolicy] = [latest, _Best(ranked)]
        try:
            # Incomplete checkpoints of a killed process are removed in the background; where there
            # is nothing, no thread must look into a folder that may be gone.
            used = self.directory.is_dir() and any(self.directory.iterdir())
            options = _options(self._kept, clean_up=used)
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        except (ValueError, OSError) as error:
            raise UsageError(
                f"the checkpoints in {self.directory} cannot be listed: repair that folder, or "
                f"start in a new workdir.\n({brief(error)})"
            ) from error

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, in ascending order."""
        return [*self._manager.all_steps()]

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint; None if there is none."""
        return self._manager.latest_step()

    def keep_every(self, steps: int) -> None:
        """From now on keeps the checkpoints of all multiples of `steps` for good."""
        self._kept.append(checkpoint_managers.EveryNSteps(steps))

    def ranked_steps(self) -> list[int]:
        """The steps of the complete checkpoints that were evaluated, the best first."""
        return self._ranked(self.steps())

    def save(
        self,
        step: int,
        state: Any,
        arrays: Mapping[str, about.Examined] | None = None,
        others: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts to write the state after `step` steps; blocks only while copying it to the host.

        Does nothing for the step that was saved last.

        Args:
            step: the number of optimizer steps taken.
            state: the train state; its buffers may be reused once this returns.
            arrays: what `examine` found in it, maybe earlier; None: it is examined now.
            others: what else the checkpoint is to say of itself; see `about.py`.

        Raises:
            UsageError: this or the previous checkpoint could not be written.
        """
        arrays = about.examine(state) if arrays is None else arrays
        item = about.to_save(step, arrays, others or {})
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), **{about.ITEM: item})
        with self._writing(), errors_only():
            # An older one is deleted only once the previous one is durable.
            self._make_durable()
            self._manager.save(step, args=args)
            self._written = step

    def restore(self, step: int, abstract_state: Any) -> Contents:
        """The state of checkpoint `step`, placed as `abstract_state` says.

        Args:
            step: of a complete checkpoint.
            abstract_state: a pytree of ShapeDtypeStruct with shardings.

        Raises:
            DamagedCheckpoint: it does not hold what was saved.
            UsageError: it is of another network or optimizer, or cannot be read here.
        """
        checkpoint = self.directory / str(step)
        contents = read(checkpoint, partial(choose_all, checkpoint, abstract_state), together=True)
        return contents._replace(tree=in_order_of(contents.tree, abstract_state))

    def put_aside(self, step: int) -> pathlib.Path:
        """Gives a damaged checkpoint another name, `STEP.damaged`, and returns that.

        Raises:
            UsageError: it cannot be renamed.
        """
        damaged = self.directory / str(step)
        names = [f"{step}.damaged", *(f"{step}.damaged{number}" for number in range(2, 1000))]
        free = next(i for i, name in enumerate(names) if not damaged.with_name(name).exists())
        # As the first process sees it, before it renames.
        aside = damaged.with_name(names[processes.gather(free)[0]])
        processes.on_first(lambda: damaged.rename(aside))
        self._manager.reload()
        return aside

    def wait(self) -> None:
        """Returns once everything saved is on disk.

        Raises:
            UsageError: a checkpoint could not be written.
        """
        with self._writing():
            self._make_durable()

    def close(self) -> None:
        """Waits as `wait` does, and ends the background threads.

        Raises:
            UsageError: a checkpoint could not be written.
        """
        with self._writing():
            self._make_durable()
            self._manager.close()

    def _make_durable(self) -> None:
        """Waits, and has what orbax leaves in the system's buffers written: all but the arrays."""
        self._manager.wait_until_finished()
        if self._written is not None and processes.is_first():
            sync_folder(self.directory / str(self._written))
        self._written = None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # orbax has no error type of its own for a failed write
            self._written = None
            answer = unwritable(self.directory, error)
            if answer is error:
                raise
            raise answer from error


class _Best(checkpoint_managers.PreservationPolicy):
    def __init__(self, ranked: Callable[[Sequence[int]], list[int]]):
        self._ranked = ranked

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        best = self._ranked([checkpoint.step for checkpoint in checkpoints])[:1]
        return [checkpoint.step in best for checkpoint in checkpoints]


def find_checkpoint(run: str | os.PathLike[str], which: int | str = "last") -> pathlib.Path:
    """The folder of a complete checkpoint of a run.

    Args:
        run: the run folder, which another process may be using.
        which: `last`, the newest one; `best`, that of the best validation accuracy or, without a
            validation split, of the best test accuracy; or its step.

    Raises:
        FileNotFoundError: there is no such checkpoint; the message lists those that there are.
        ValueError: `which` is something else, or metrics.jsonl, which ranks them, is damaged.
    """
    folder = RunFolder(expanded(run).absolute())
    steps = folder.saved_steps()
    if not steps:
        raise FileNotFoundError(f"{run} has no checkpoint in {folder.checkpoints_path}")
    if which == "last":
        step = steps[-1]
    elif which == "best":
        ranked = by_rank(folder.records(remedy="repair it, or take `last` or a step"), steps)
        if not ranked:
            raise FileNotFoundError(
                f"{run} has no best checkpoint, as none of them was evaluated: take `last`"
            )
        step = ranked[0]
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


def _options(
    kept: list[checkpoint_managers.PreservationPolicy], *, clean_up: bool
) -> ocp.CheckpointManagerOptions:
    return ocp.CheckpointManagerOptions(
        save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(kept),
        cleanup_tmp_directories=clean_up,
        # In the background, a folder that cannot be made leaves threads that wait for it, for 300 s
        # and past the end of the program.
        async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
    )
