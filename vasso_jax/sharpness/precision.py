"""Products of float32 matrices in the precision of float32, on every device."""

import functools
from collections.abc import Callable
from typing import Any

import jax


def in_full_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, for which products of matrices are not rounded to fewer bits.

    By default they are rounded to 10 bits on GPUs, and to 7 on TPUs, which would hide small
    eigenvalues and small changes of a loss. What is decorated must be the jitted function: some
    operations take the precision from where they are traced, and others from where they are
    compiled.
    """

    @functools.wraps(function)
    def exact(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return exact
