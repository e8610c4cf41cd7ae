"""Weights read from a checkpoint, for a new run or to be used, and written as one."""

import pathlib
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from vasso_jax.names import expanded
from vasso_jax.runs import RunFolder
from vasso_jax.train.checkpoints.checkpoint import (
    Checkpoints,
    errors_only,
    find_checkpoint,
    split_name,
)
from vasso_jax.train.devices.sharding import in_order_of
from vasso_jax.train.errors import UsageError
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
        UsageError: the checkpoint is damaged, of another network (the message names the first
            difference), or without the average.
    """
    flat = _flatten(like)
    folder = checkpoint / "state"
    try:
        with errors_only(), ocp.PyTreeCheckpointer() as checkpointer:
            metadata: Any = checkpointer.metadata(folder).item_metadata
        if metadata is None:
            raise ValueError("it lacks its metadata")
        averages = metadata.tree.get("ema")
        holder = averages if averages and average is not False else metadata.tree
        theirs = _flatten({key: holder.get(key) or {} for key in like})
        shapes = {path: x.shape for path, x in theirs.items()}
    except Exception as error:  # as in Checkpoints.restore
        raise _unreadable(checkpoint, error) from error
    if average and not averages:
        raise UsageError(
            f"the checkpoint {checkpoint} has no average of the weights: the run was trained "
            "without ema_decay"
        )

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
            path: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
            for path, x in flat.items()
            if path not in head
        }
    )
    if holder is averages:
        wanted = {"ema": wanted}
    args = ocp.args.PyTreeRestore(
        item=wanted,
        restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
        partial_restore=True,
    )
    try:
        with errors_only(), ocp.PyTreeCheckpointer() as checkpointer:
            restored = checkpointer.restore(folder, args=args)
    except (MemoryError, jax.errors.JaxRuntimeError):
        raise  # not the fault of the files
    except Exception as error:  # as above
        raise _unreadable(checkpoint, error) from error
    if holder is averages:
        restored = restored["ema"]
    # Only a new head is missing there.
    return flax.traverse_util.unflatten_dict(flat | _flatten(restored))


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


def _unreadable(checkpoint: pathlib.Path, error: Exception) -> UsageError:
    reason = str(error).strip().splitlines()[:1]
    return UsageError(
        f"the checkpoint {checkpoint} cannot be read ({type(error).__name__}: {' '.join(reason)})"
    )
