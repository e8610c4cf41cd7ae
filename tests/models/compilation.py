"""Quicker compilation, for tests that compile far longer than they run."""

import contextlib

import jax


@contextlib.contextmanager
def quick_compilation():
    """Leaves out most of XLA's optimisations, which takes about half as long."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
