"""Independent random streams of a run, all from its one seed."""

from typing import Literal

import jax

Stream = Literal["init", "order", "step"]
_STREAMS: tuple[Stream, ...] = ("init", "order", "step")


def stream_key(seed: int | jax.Array, stream: Stream) -> jax.Array:
    """The key of a stream: initial weights, data order, or augmentation and dropout."""
    return jax.random.fold_in(jax.random.key(seed), _STREAMS.index(stream))
