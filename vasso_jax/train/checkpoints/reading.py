"""Reads arrays of a checkpoint and checks that they are those that were saved."""

import contextlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath

from vasso_jax.files import check_file
from vasso_jax.train.checkpoints.about import examine, paths, read_about
from vasso_jax.train.checkpoints.causes import NOT_OF_FILES, brief, is_damage, lost, unreadable
from vasso_jax.train.checkpoints.logs import errors_only
from vasso_jax.train.devices import processes
from vasso_jax.train.errors import DamagedCheckpoint, UsageError

# {path: {"shape", "dtype", "checksum"}}, of `about`.
Arrays = Mapping[str, Mapping[str, Any]]


class Contents(NamedTuple):
    """What was read.

    Attributes:
        tree: the arrays.
        about: what the checkpoint says of itself; see `about.py`.
    """

    tree: Any
    about: Mapping[str, Any]


def read(checkpoint: pathlib.Path, choose: Callable[[Arrays], Any], *, together: bool) -> Contents:
    """Reads those arrays of a checkpoint that `choose` picks.

    Args:
        checkpoint: the folder.
        together: whether the arrays are shared by all processes, which then all call this, and
            either all return or all raise.
        choose: gets the arrays that there are, and returns a pytree of ShapeDtypeStruct with
            shardings, of these shapes and dtypes. It raises a UsageError if that cannot be.

    Raises:
        DamagedCheckpoint: a file is damaged or missing, or an array is not the one that was saved.
        UsageError: of `choose`, or the files cannot be read here.
    """
    if together:
        contents = _on_all(checkpoint, lambda: _read(checkpoint, choose))
    else:
        contents = _read(checkpoint, choose)
    saved = contents.about["arrays"]
    for path, array in examine(contents.tree).items():
        if array.checksum != saved[path]["checksum"]:
            raise DamagedCheckpoint(checkpoint, f"{path} is not what was saved")
    return contents


def choose_all(checkpoint: pathlib.Path, wanted: Any, arrays: Arrays) -> Any:
    """For `read`: `wanted`, if these are all arrays of the checkpoint."""
    ours = paths(wanted)
    for path in sorted(ours.keys() ^ arrays.keys()):
        where = "only in the checkpoint" if path in arrays else "missing there"
        raise _other(checkpoint, f"{path} is {where}")
    for path, x in ours.items():
        there = (arrays[path]["dtype"], tuple(arrays[path]["shape"]))
        here = (str(x.dtype), x.shape)
        if there != here:
            raise _other(checkpoint, f"{path} is {_text(*there)} there, {_text(*here)} here")
    return wanted


def _other(checkpoint: pathlib.Path, difference: str) -> UsageError:
    return UsageError(
        f"the checkpoint {checkpoint} is of another network or optimizer: {difference}. Bring back "
        "the code and packages that wrote it, or start in a new workdir"
    )


def _text(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


def _read(checkpoint: pathlib.Path, choose: Callable[[Arrays], Any]) -> Contents:
    try:
        for path in checkpoint.rglob("*"):
            if path.is_file():
                path.open("rb").close()  # an OSError says why not, and those of orbax do not
            elif not path.is_dir():
                check_file(path)
        about = read_about(checkpoint)
        wanted = choose(about["arrays"])
        args = ocp.args.PyTreeRestore(
            item=wanted,
            restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
            partial_restore=True,
        )
        # Not by a checkpointer, which waits for other processes even if one of them has failed.
        with errors_only(), contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
            return Contents(handler.restore(epath.Path(checkpoint / "state"), args=args), about)
    except NOT_OF_FILES:
        raise
    except Exception as error:  # damaged files raise many kinds of error
        if is_damage(error):
            raise DamagedCheckpoint(checkpoint, brief(error)) from error
        raise unreadable(checkpoint, error) from error


def _on_all(checkpoint: pathlib.Path, make: Callable[[], Contents]) -> Contents:
    """`make()` on all processes, of which each raises if one does, by the worst of their errors."""
    contents = failure = None
    try:
        contents = make()
    except Exception as error:
        failure = error
    grade = 0 if failure is None else 1 if isinstance(failure, DamagedCheckpoint) else 2
    try:
        worst = max(processes.gather(grade))
    except jax.errors.JaxRuntimeError as error:
        raise lost(f"{checkpoint} cannot be read", error) from error
    if failure and grade == worst:
        raise failure
    if worst == 2:
        raise UsageError(f"another process could not read {checkpoint}: see its message")
    if worst == 1:
        raise DamagedCheckpoint(checkpoint, "another process could not read it")
    assert contents is not None
    return contents
