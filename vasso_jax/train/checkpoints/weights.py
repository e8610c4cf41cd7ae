"""Weights read from a checkpoint, for a new run or to be used, and written as one."""

import contextlib
import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp

from vasso_jax.names import expanded
from vasso_jax.runs import RunFolder
from vasso_jax.train.checkpoints.checkpoint import Checkpoints, find_checkpoint, split_name
from vasso_jax.train.checkpoints.reading import Arrays, read
from vasso_jax.train.devices.sharding import in_order_of
from vasso_jax.train.errors import DamagedCheckpoint, UsageError
from vasso_jax.train.steps.state import TrainState

_Path = tuple[str, ...]


def checkpoint_of(init_from: str) -> pathlib.Path:
    """The checkpoint that `init_from` names; see `split_name`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the checkpoints cannot be listed.
    """
    try:
        return find_checkpoint(*split_name(init_from))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"init_from={init_from}: {error}") from error


def start_from(checkpoint: pathlib.Path, state: TrainState, *, keep_head: bool) -> TrainState:
    """`state` with the parameters and running statistics of a checkpoint, or their average.

    Args:
        checkpoint: of `checkpoint_of`, by any optimizer.
        state: at step 0; the arrays are placed as its own.
        keep_head: see `read_variables`.

    Raises:
        UsageError: as `read_variables`.
    """
    ours = {"params": state.params, "batch_stats": state.batch_stats}
    read = read_variables(checkpoint, ours, keep_head=keep_head)
    params = in_order_of(read["params"], state.params)
    batch_stats = read.get("batch_stats", {})
    ema = {}
    if state.ema:
        # Other buffers, as those of a state must not be shared.
        weights = {"params": params, "batch_stats": batch_stats}
        ema = jax.tree.map(lambda old, w: jnp.array(w, old.dtype), state.ema, weights)
    return state.replace(params=params, batch_stats=batch_stats, ema=ema)


def read_variables(
    checkpoint: pathlib.Path,
    like: dict[str, Any],
    *,
    keep_head: bool = True,
    average: bool | None = None,
) -> dict[str, Any]:
    """The parameters and running statistics of a checkpoint.

    Args:
        checkpoint: of `find_checkpoint`, by any optimizer.
        like: {"params", "batch_stats"} of arrays, or of their shapes with shardings, as which the
            result is placed.
        keep_head: whether a last layer for another number of classes is an error; if not, the last
            layer of `like`, which then are arrays, is kept.
        average: whether to read their average over the steps; None: if there is one.

    Raises:
        UsageError: the checkpoint is damaged (the message names another one that is whole), of
            another network (it names the first difference), or without the average.
    """
    choose = partial(_choose, checkpoint, like, keep_head, average)
    together = not all(x.sharding.is_fully_addressable for x in jax.tree.leaves(like))
    try:
        tree = read(checkpoint, choose, together=together).tree
    except DamagedCheckpoint as error:
        raise UsageError(f"{error}: {_way_out(checkpoint, choose, together)}") from error
    flat = _flatten(like)
    restored = {
        path: x if x.dtype == flat[path].dtype else x.astype(flat[path].dtype)
        for path, x in _flatten(tree.get("ema", tree)).items()
    }
    # Only a new head is missing there.
    return flax.traverse_util.unflatten_dict(flat | restored)


def _choose(
    checkpoint: pathlib.Path,
    like: dict[str, Any],
    keep_head: bool,
    average: bool | None,
    arrays: Arrays,
) -> Any:
    """For `read`: the arrays that `read_variables` takes, in the dtypes that they have there."""
    has_average = any(path.startswith("ema/") for path in arrays)
    if average and not has_average:
        raise UsageError(
            f"the checkpoint {checkpoint} has no average of the weights: the run was trained "
            "without ema_decay"
        )
    prefix = "ema/" if has_average and average is not False else ""
    flat = _flatten(like)
    theirs = {
        tuple(path.removeprefix(prefix).split("/")): array
        for path, array in arrays.items()
        if path.startswith(tuple(f"{prefix}{name}/" for name in like))
    }
    shapes = {path: tuple(array["shape"]) for path, array in theirs.items()}

    if strangers := sorted(flat.keys() ^ shapes.keys()):
        where = "only in the checkpoint" if strangers[0] in shapes else "missing there"
        raise UsageError(
            f"the checkpoint {checkpoint} is of another network: "
            f"{'/'.join(strangers[0])} is {where}"
        )
    head = sorted(path for path in flat if flat[path].shape != shapes[path])
    if head and (keep_head or not _is_last_layer(head, flat, shapes)):
        raise UsageError(
            f"the checkpoint {checkpoint} is of another network: {'/'.join(head[0])} has shape "
            f"{shapes[head[0]]} there, {flat[head[0]].shape} here"
        )
    wanted = flax.traverse_util.unflatten_dict(
        {
            path: jax.ShapeDtypeStruct(x.shape, theirs[path]["dtype"], sharding=x.sharding)
            for path, x in flat.items()
            if path not in head
        }
    )
    return {"ema": wanted} if prefix else wanted


def _way_out(checkpoint: pathlib.Path, choose: Callable[[Arrays], Any], together: bool) -> str:
    """Another checkpoint of the same run that can be taken."""
    run = checkpoint.parent.parent
    for step in reversed(RunFolder(run).saved_steps()):
        if step != int(checkpoint.name):
            with contextlib.suppress(UsageError):
                read(checkpoint.with_name(str(step)), choose, together=together)
                return f"that of step {step} is whole, take {run}@{step}"
    return "no other one of this run is whole"


def write_run(run: str, variables: dict[str, Any]) -> None:
    """Writes weights from elsewhere as a run folder, for `init_from`.

    Args:
        run: a folder without checkpoints.
        variables: {"params", "batch_stats"}.

    Raises:
        UsageError: the folder has checkpoints already, or cannot be written.
    """
    checkpoints = Checkpoints(RunFolder(expanded(run)).checkpoints_path)
    try:
        if checkpoints.latest_step() is not None:
            raise UsageError(f"{run} already holds a run: give another folder")
        checkpoints.save(0, variables)
    finally:
        checkpoints.close()


def _flatten(tree: Any) -> dict[_Path, Any]:
    flat: Any = flax.traverse_util.flatten_dict(tree)
    return flat


def _is_last_layer(
    differing: list[_Path], ours: dict[_Path, Any], theirs: dict[_Path, tuple[int, ...]]
) -> bool:
    """Whether all of these belong to one layer and differ only in the number of outputs."""
    return len({path[:-1] for path in differing}) == 1 and all(
        ours[path].shape[:-1] == theirs[path][:-1] for path in differing
    )
