"""Trains a network: python main.py --config=configs/digits_vasso.py [--workdir=DIR]

Any field of the config can be overridden: --config.rho=0.1 --config.epochs=5. The last line of
standard output is the result as one JSON object. Exit status: 0 finished; 2 wrong input or
surroundings, with one message on standard error; 128 + signal number where a signal stopped the
run, which goes on from its last checkpoint when the same command is given again.
"""

import contextlib
import difflib
import json
import os
import pathlib
import platform
import re
import signal
import sys
import threading
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from configs import default

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment, one of configs/*.py[:OPTIMIZER]."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Run folder; default: runs/NAME_OF_THE_CONFIG.")
_FIELDS = frozenset(default.get_config())


def _parse(argv: list[str]) -> list[str]:
    """absl's parser, with every error in flags, fields or config file as one message."""
    for argument in argv:
        if match := re.match(r"--?config\.([^=]*)", argument):
            _check_field(match[1])
    try:
        positional = flags.FLAGS(argv)
    except flags.Error as error:
        # An error that a config raises about its argument comes with its whole trace.
        *trace, message = str(error).strip().splitlines()
        if "get_config() takes 0" in message:
            message = "this config takes no argument behind a colon"
        _fail(message.removeprefix("ValueError: ") if trace else message)
    except Exception as error:  # the config file is code, and may raise anything
        _fail_to_load(error)
    if len(positional) > 1:
        _fail(f"what is {positional[1]!r}? Fields are set as --config.epochs=5")
    if _CONFIG.value is None:
        _fail("give an experiment, as --config=configs/digits_vasso.py")
    try:
        # A file that could not be loaded raises here, when it is first looked at.
        fields = set(_CONFIG.value)
    except Exception as error:  # as above
        _fail_to_load(error)
    for field in sorted(fields):
        _check_field(field)
    if missing := sorted(_FIELDS - fields):
        _fail(f"the config lacks {', '.join(missing)}: begin it with configs.default.get_config()")
    return positional


def _check_field(field: str) -> None:
    if field not in _FIELDS:
        near = difflib.get_close_matches(field, _FIELDS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        _fail(f"the config has no field {field!r}.{hint} All fields are in configs/default.py.")


def _fail_to_load(error: Exception) -> NoReturn:
    # The last lines of a trace within an exception's text, or all of it, name file and line.
    message = "\n".join(str(error).strip().splitlines()[-5:])
    _fail(f"the config file cannot be loaded: {type(error).__name__}: {message}")


def _fail(message: object) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _run_name() -> str:
    """cifar10_resnet18_sam for --config=configs/cifar10_resnet18.py:sam"""
    file, _, argument = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return "_".join(filter(None, (pathlib.Path(file).stem, argument)))


def _quieten_libraries() -> None:
    """Leaves standard error to our messages: what matters below comes back as an exception."""
    logging.set_verbosity(logging.FATAL)
    usual = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        # When a checkpoint cannot be written, tensorstore's threads print a trace for every array
        # in it, beside the error that orbax raises.
        if threading.current_thread() is threading.main_thread():
            usual(unraisable)

    sys.unraisablehook = hook


def _leave_at_once(number: int, frame: object) -> NoReturn:
    """Ctrl-C outside of training, where there is nothing to save.

    Not by KeyboardInterrupt: raised within a library's callback, it would be lost.
    """
    del frame
    print("interrupted; what was saved before is kept", file=sys.stderr, flush=True)
    os._exit(128 + number)


def _keep_compiled_programs() -> None:
    """A cache for JAX, unless it has one: a restart, above all, need not compile again.

    In a folder a machine, as what was compiled for one CPU may not run on another that shares the
    home directory. Not for several hosts, of which only the first would write.
    """
    with contextlib.suppress(OSError, RuntimeError):  # not writable; no home: only time is lost
        cache = pathlib.Path("~/.cache/vasso_jax", platform.node()).expanduser()
        cache.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))


def main(argv: list[str]) -> None:
    del argv
    _quieten_libraries()
    signal.signal(signal.SIGINT, _leave_at_once)
    if not _CONFIG.value.distributed:
        _keep_compiled_programs()
    try:
        # JAX and all that comes with it load only once the command line has been understood.
        import jax

        from vasso_jax.train import Stopped, UsageError, train

        try:
            result = train(_CONFIG.value, _WORKDIR.value or f"runs/{_run_name()}")
        except UsageError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            if jax.process_count() > 1:
                # An ordinary end would wait for the other processes, and they for this one.
                os._exit(2)
            sys.exit(2)
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            sys.exit(128 + stopped.signal_number)
    except KeyboardInterrupt:
        print("interrupted; what was saved before is kept", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
