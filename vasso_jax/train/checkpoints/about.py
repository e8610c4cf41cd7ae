"""What a checkpoint says of itself, in its item `about`: what it must hold to be whole.

A JSON object of its `step`, `arrays`, {path: {"shape", "dtype", "checksum"}}, what else the trainer
has to say, and `crc32`, of all that. So a damaged checkpoint and one of another network can be told
apart.
"""

import contextlib
import json
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from vasso_jax.runs import read_object
from vasso_jax.train.checkpoints.checksums import survey

ITEM = "about"
# One program per shape, of which there are few: one for all arrays takes longer to compile.
_survey = jax.jit(survey)


class Examined(NamedTuple):
    """What is known of an array.

    Attributes:
        shape, dtype: of the array, the latter by its name.
        checksum: below 2^32; see `checksums.py`.
        has_nan, has_infinity: whether any element is such.
    """

    shape: tuple[int, ...]
    dtype: str
    checksum: int
    has_nan: bool
    has_infinity: bool


def examine(tree: Any) -> dict[str, Examined]:
    """Examines each array of a pytree; the keys are `paths`.

    Args:
        tree: arrays of any dtype. If these lie on the devices of several processes, all of them
            must call this together.

    Returns:
        The same on all processes, however the arrays lie. Waits for the devices.
    """
    examined = {}
    for path, x in paths(tree).items():
        checksum, flags = map(int, jax.device_get(_surveyed(x)))
        examined[path] = Examined(x.shape, str(x.dtype), checksum, bool(flags & 1), bool(flags & 2))
    return examined


def copies(tree: Any) -> dict[str, set[int]]:
    """The checksums of each array as the devices of this process hold it; the keys are `paths`.

    One for each array, unless devices hold copies of it that differ.

    Args:
        tree: as for `examine`.
    """
    checksums = {path: _surveyed(x)[0] for path, x in paths(tree).items()}
    return {
        path: {int(shard.data) for shard in checksum.addressable_shards}
        for path, checksum in checksums.items()
    }


def _surveyed(x: Any) -> tuple[jax.Array, jax.Array]:
    # The caller may have set another mesh.
    mesh: Any = getattr(getattr(x, "sharding", None), "mesh", None)
    with jax.set_mesh(mesh) if mesh else contextlib.nullcontext():
        # Each array waits: programs with collectives that queue up can deadlock on CPU devices.
        return jax.block_until_ready(_survey(x))


def paths(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their paths, such as `params/head/bias`."""
    return {
        jax.tree_util.keystr(keys, simple=True, separator="/"): leaf
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def to_save(
    step: int, arrays: Mapping[str, Examined], others: Mapping[str, Any]
) -> ocp.args.JsonSave:
    """The item to be saved.

    Args:
        step: of the checkpoint.
        arrays: of the state, as they were examined.
        others: what else is to be kept; values that JSON can hold.
    """
    kept = {
        path: {"shape": [*array.shape], "dtype": array.dtype, "checksum": array.checksum}
        for path, array in arrays.items()
    }
    content = {**others, "step": step, "arrays": kept}
    return ocp.args.JsonSave({**content, "crc32": _crc32(content)})


def read_about(checkpoint: pathlib.Path) -> dict[str, Any]:
    """The item of a checkpoint, without its crc32.

    Raises:
        ValueError: it is missing or damaged, or the checkpoint has been renamed.
        OSError: it cannot be read.
    """
    path = checkpoint / ITEM / "metadata"
    content = read_object(path, "an older version of vasso_jax wrote none")
    if content.pop("crc32", None) != _crc32(content):
        raise ValueError(f"{path} is damaged (its checksum)")
    if str(step := content.get("step")) != checkpoint.name:
        raise ValueError(f"it is that of step {step}")
    return content


def _crc32(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
