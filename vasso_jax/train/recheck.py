"""Computes some steps twice and compares the bits: sound hardware repeats itself.

A processor or memory can be wrong without any sign, and what a run learns from then on is wrong,
too (arXiv 2102.11245, and of training 2502.12340). A step depends on nothing but the state and its
batch, so one that is computed again must come out the same, in every bit and on every device that
has a copy, of whatever process.
"""

import json
import socket
import zlib
from typing import Any

import jax
import jax.numpy as jnp

from vasso_jax.train.checkpoints.about import copies
from vasso_jax.train.devices import processes
from vasso_jax.train.errors import SilentCorruption
from vasso_jax.train.steps.program import Program
from vasso_jax.train.steps.state import TrainState

_NAMED = 3  # arrays in the message
_ADVICE = (
    "Nothing of it was saved. Run the same command on other machines to resume at the last "
    "checkpoint, and have these tested."
)


class RecheckedStep:
    """The train step of a program, computed twice where its number is a multiple of `every`."""

    def __init__(self, program: Program, every: int):
        """`every`: 0: each step is computed once."""
        self._compute = program.train_step
        self._every = every
        self._copy = jax.jit(
            lambda state: jax.tree.map(jnp.copy, state),
            out_shardings=jax.tree.map(lambda x: x.format, program.abstract_state),
        )

    def __call__(self, number: int, state: TrainState, item: Any) -> TrainState:
        """The state after the step.

        Args:
            number: of the step, from 1 on.
            state: before it; its buffers are reused.
            item: of the step.

        Raises:
            SilentCorruption: the two results differ, or the copies of the state that the processes
                hold; on all processes if on one.
        """
        if not self._every or number % self._every:
            return self._compute(state, item)
        first = copies(self._compute(self._copy(state), item))
        state = self._compute(state, item)
        second = copies(state)
        differing = [path for path in first if len(first[path] | second[path]) > 1]
        if any(processes.gather(len(differing))):
            raise SilentCorruption(_message(number, differing))
        if len({*processes.gather(_digest(second))}) > 1:
            raise SilentCorruption(
                f"after step {number} the processes hold copies of the state that differ "
                f"({_here()}): a processor or memory is at fault. {_ADVICE}"
            )
        return state


def _digest(checksums: dict[str, set[int]]) -> int:
    """31 bits: JAX has no more, with a sign."""
    content = {path: sorted(found) for path, found in checksums.items()}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode()) & 0x7FFFFFFF


def _here() -> str:
    return f"on {socket.gethostname()}, process {processes.index()} of {processes.count()}"


def _message(number: int, differing: list[str]) -> str:
    if not differing:
        return (
            f"step {number} was computed twice and came out differently on another process: see "
            f"its message. {_ADVICE}"
        )
    others = len(differing) - _NAMED
    what = ", ".join(differing[:_NAMED]) + (f" and {others} others" if others > 0 else "")
    return (
        f"step {number} was computed twice and came out differently ({what}; {_here()}): a "
        f"processor or memory is at fault. {_ADVICE}"
    )
