"""Trains a network: vasso-jax train --config=FILE[:METHOD] [--workdir=DIR] [--config.FIELD=VALUE]

For example: vasso-jax train --config=digits:vasso. In a clone, python main.py is the same. FILE is
a Python file, or the name of a config that comes with the package, such as cifar10_resnet18; METHOD
is vasso, sam, asam, none (the base optimizer alone) or another one. Any field can be set, as
--config.method.rho=0.1 --config.epochs=5; --help_config lists all of them. The last line of
standard output is the result as one JSON object. Exit status: 0 finished; 2 wrong input or
environment, with one message on standard error; 128 + signal number where a signal stopped the run,
which resumes at its last checkpoint when the same command is given again.
"""

import contextlib
import json
import os
import pathlib
import platform
import re
import signal
import sys
import traceback
from typing import NoReturn

from absl import app, flags
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

import vasso_jax
from vasso_jax.cli.quiet import quieten_libraries
from vasso_jax.names import did_you_mean
from vasso_jax.train import default_config
from vasso_jax.train.config import SECTIONS

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Experiment: FILE.py[:METHOD], or the name of one that comes with the package.",
    lock_config=False,
    accept_new_attributes=True,  # arguments that a section leaves at their defaults
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Run folder; default: runs/NAME_OF_THE_CONFIG.")
_HELP_CONFIG = flags.DEFINE_bool("help_config", False, "List every field of the config.")
_FIELDS = frozenset(default_config())
_NO_CONFIG = "give an experiment, as --config=digits:vasso"


def main(arguments: list[str] | None = None) -> None:
    """The command with its arguments; None: those of this process."""
    if arguments is None:
        arguments = sys.argv[1:]
    if {"-h", "--help"} & {*arguments}:
        print(__doc__)
        return
    app.run(_main, argv=[sys.argv[0], *arguments], flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    """absl's parser, with every error in flags, fields or config file as one message."""
    for argument in argv:
        if match := re.match(r"--?config\.([^=]*)", argument):
            _check_field(match[1])
    try:
        positional = flags.FLAGS([_with_path(argument) for argument in _joined(argv)])
    except flags.UnrecognizedFlagError as error:
        _fail_unrecognized(error)
    except flags.Error as error:
        # An error that a config raises about its argument comes with its whole trace.
        *trace, message = str(error).strip().splitlines()
        if "get_config() takes 0" in message:
            message = "this config takes no method after a colon"
        _fail(message.removeprefix("ValueError: ") if trace else message)
    except Exception as error:  # the config file is code, and may raise anything
        if nested := [a for a in argv if re.match(r"--?config\.\w+\.\w+\.", a)]:
            _check_nested(nested, error)
        _fail_to_load(error)
    if len(positional) > 1:
        _fail(f"what is {positional[1]!r}? Fields are set as --config.epochs=5")
    if _CONFIG.value is None:
        _fail(_NO_CONFIG)
    try:
        # A file that could not be loaded raises here, when it is first looked at.
        fields = set(_CONFIG.value)
    except Exception as error:  # as above
        _fail_to_load(error)
    if missing := sorted(_FIELDS - fields):
        _fail(
            f"the config lacks {', '.join(missing)}: begin it with vasso_jax.train.default_config()"
        )
    return positional


def _joined(argv: list[str]) -> list[str]:
    """The arguments, with --config FILE as --config=FILE."""
    text = "\0".join(argv)
    return re.sub(r"(^|\0)(--?config)\0(?!-)", r"\1\2=", text).split("\0")


def _with_path(argument: str) -> str:
    """--config=NAME[:METHOD] of a config that comes with the package, with its path."""
    match = re.fullmatch(r"(--?config=)([^:]*)((?::.*)?)", argument)
    if match is None or pathlib.Path(match[2]).is_file():
        return argument
    if not match[2]:
        _fail(_NO_CONFIG)
    if not re.fullmatch(r"\w+", match[2]):
        _fail(f"there is no config file {match[2]}")
    shipped = _shipped_configs()
    path = shipped / f"{match[2]}.py"
    if not path.is_file():
        known = sorted(path.stem for path in shipped.glob("[a-z]*.py"))
        _fail(
            f"there is no config {match[2]!r}.{did_you_mean(match[2], known)} Give a file, or one "
            f"of {', '.join(known)}"
        )
    return f"{match[1]}{path}{match[3]}"


def _shipped_configs() -> pathlib.Path:
    package = pathlib.Path(vasso_jax.__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _check_field(path: str) -> None:
    """Whether the config has this field; those of the sections are checked with their values."""
    field, _, rest = path.partition(".")
    if field in SECTIONS:
        if rest:
            return
        example = f"{field}.name" if SECTIONS[field] else f"{field}.FIELD"
        _fail(f"{field} is a section of the config: set its fields, as --config.{example}=...")
    if field not in _FIELDS or rest:
        hint = _full_names(field) or did_you_mean(field, sorted(_FIELDS))
        _fail(f"the config has no field {path!r}.{hint} --help_config lists all of them.")


def _check_nested(arguments: list[str], error: Exception) -> None:
    """Fails if the error comes from setting such a field, and not from the config file."""
    frames = traceback.extract_tb(error.__traceback__)
    if any(pathlib.Path(frame.filename).name == "config_path.py" for frame in frames):
        names = " or ".join(argument.partition("=")[0] for argument in arguments)
        _fail(f"{names} cannot be set: the config has no such field")


def _full_names(field: str) -> str:
    from vasso_jax.train.help import full_names

    names = " or ".join(f"--config.{name}" for name in full_names(field))
    return f" Did you mean {names}?" if names else ""


def _fail_unrecognized(error: flags.UnrecognizedFlagError) -> NoReturn:
    name = error.flagname.removeprefix("config.")
    hint = _full_names(name.rpartition(".")[2]) or did_you_mean(name, ["config", "workdir"])
    _fail(f"there is no flag --{error.flagname}.{hint}")


def _fail_to_load(error: Exception) -> NoReturn:
    # The last lines of a trace within an exception's text, or all of it, name file and line.
    message = "\n".join(str(error).strip().splitlines()[-5:])
    _fail(f"the config file cannot be loaded: {type(error).__name__}: {message}")


def _fail(message: object) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _run_name() -> str:
    """cifar10_resnet18_sam for --config=configs/cifar10_resnet18.py:sam"""
    file, _, method = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return "_".join(filter(None, (pathlib.Path(file).stem, method.replace(":", "."))))


def _leave_at_once(number: int, frame: object) -> NoReturn:
    """Ctrl-C outside of training, where there is nothing to save.

    Not by KeyboardInterrupt: raised within a library's callback, it would be lost.
    """
    del frame
    print("interrupted; what was saved before is kept", file=sys.stderr, flush=True)
    os._exit(128 + number)


def _keep_compiled_programs() -> None:
    """A cache for JAX, unless it has one: a restart, above all, need not compile again.

    In one folder per machine, as what was compiled for one CPU may not run on another that shares
    the home directory. Not for several processes, of which only the first would write.
    """
    import jax

    from vasso_jax.train import processes

    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # By default, what took less than a second to compile is not kept.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if processes.several() or jax.config.values["jax_compilation_cache_dir"]:
        return
    with contextlib.suppress(OSError, RuntimeError):  # not writable; no home: only time is lost
        cache = pathlib.Path("~/.cache/vasso_jax", platform.node()).expanduser()
        cache.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(cache))


def _print_fields() -> None:
    from vasso_jax.train.help import fields_of

    table = Table("field", "value", "meaning", box=None, pad_edge=False)
    for name, value, meaning in fields_of(_CONFIG.value):
        table.add_row(f"--config.{name}", str(value), meaning)
    Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False).print(table)


def _main(argv: list[str]) -> None:
    del argv
    quieten_libraries()
    signal.signal(signal.SIGINT, _leave_at_once)
    if _HELP_CONFIG.value:
        try:
            _print_fields()
        except ValueError as error:
            _fail(error)
        return
    try:
        # JAX and all that comes with it load only once the command line has been understood.
        from vasso_jax.train import Stopped, UsageError, check, processes, run_plan, usage_errors

        try:
            with usage_errors():
                plan = check(_CONFIG.value)
            _keep_compiled_programs()
            result = run_plan(plan, _WORKDIR.value or f"runs/{_run_name()}")
        except UsageError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            if processes.joined():
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
