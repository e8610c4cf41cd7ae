"""Child processes: where they run, and their environment."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).absolute().parents[2]
# For processes that use one GPU at the same time.
SHARED_GPU = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child process: that of this process, with this clone on its path.

    Args:
        variables: to be added or replaced.
    """
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(variables or {})}


def python(*arguments: str, variables: Mapping[str, str] | None = None) -> str:
    """Runs this Python in the root of the clone.

    Args:
        arguments: of the interpreter.
        variables: see `environment`.

    Returns:
        Its standard output.

    Raises:
        ValueError: the process failed; the message is that of its standard error, or the last line
            there.
    """
    child = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(variables),
        capture_output=True,
        text=True,
    )
    if child.returncode:
        said = child.stderr.strip() or f"exit status {child.returncode}"
        _, is_message, message = f"\n{said}".rpartition("\nerror: ")
        raise ValueError(message if is_message else said.splitlines()[-1])
    return child.stdout
