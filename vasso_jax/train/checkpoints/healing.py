"""Of several checkpoints the first one that is whole; what stands in its way is put aside."""

import pathlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vasso_jax.train.checkpoints.checkpoint import Checkpoints
from vasso_jax.train.devices import processes
from vasso_jax.train.errors import DamagedCheckpoint, UsageError


class Restored(NamedTuple):
    """A state that was read back.

    Attributes:
        step: of the checkpoint.
        state: the train state.
        about: what the checkpoint says of itself; see `about.py`.
        damaged: {where it was put: what was found} of each damaged one that was to be preferred.
    """

    step: int
    state: Any
    about: Mapping[str, Any]
    damaged: Mapping[pathlib.Path, str]

    @property
    def put_aside(self) -> list[str]:
        """The names that the damaged ones have now."""
        return [path.name for path in self.damaged]

    def warning(self) -> str:
        """A line about the damaged ones."""
        names = "; ".join(f"{path} ({reason})" for path, reason in self.damaged.items())
        return f"damaged checkpoints were put aside, and that of step {self.step} is used: {names}"


def restore_first_whole(
    checkpoints: Checkpoints, steps: Sequence[int], abstract_state: Any
) -> Restored:
    """The state of the first checkpoint of `steps` that is whole.

    Damaged ones before it are put aside; if none is whole, all stay where they are. With several
    processes, all must call this.

    Args:
        checkpoints: of the run.
        steps: of some of these, at least one, in the order in which they are wanted.
        abstract_state: see `Checkpoints.restore`.

    Raises:
        UsageError: none is whole, or one cannot be read for another reason than damage.
    """
    seen = processes.gather(zlib.crc32(repr(steps).encode()) & 0x7FFFFFFF)
    if len({*seen}) > 1:
        raise UsageError("the hosts see different checkpoints: give all of them the same workdir")
    found: dict[int, str] = {}
    for step in steps:
        try:
            state, about = checkpoints.restore(step, abstract_state)
        except DamagedCheckpoint as error:
            found[step] = error.reason
        else:
            damaged = {checkpoints.put_aside(each): reason for each, reason in found.items()}
            return Restored(step, state, about, damaged)
    raise UsageError(
        f"no checkpoint in {checkpoints.directory} is whole: bring a copy back, or start in a new "
        f"workdir. Found: {'; '.join(f'{step} ({reason})' for step, reason in found.items())}"
    )
