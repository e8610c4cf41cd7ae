"""Where the programs that JAX compiles are kept between runs."""

import contextlib
import os
import pathlib
import platform

import jax

from vasso_jax.train.devices import processes


def keep_compiled_programs() -> None:
    """A cache for JAX, unless it has one: a restart, above all, need not compile again.

    In one folder per machine, as what was compiled for one CPU may not run on another that shares
    the home directory. Not for several processes of one run, of which only the first would write.
    """
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # By default, what took less than a second to compile is not kept.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if processes.several() or jax.config.values["jax_compilation_cache_dir"]:
        return
    with contextlib.suppress(OSError, RuntimeError):  # not writable; no home: only time is lost
        cache = pathlib.Path("~/.cache/vasso_jax", platform.node()).expanduser()
        cache.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(cache))
