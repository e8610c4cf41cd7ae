"""The flag --config=FILE[:METHOD] with --config.FIELD=VALUE: from the command line to a config."""

import pathlib
import re
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_flags

import vasso_jax
from vasso_jax.cli.failure import fail
from vasso_jax.names import did_you_mean
from vasso_jax.train import default_config
from vasso_jax.train.config.fields import SECTIONS, Config

_FIELDS = frozenset(default_config())
_NO_CONFIG = "give an experiment, as --config=digits:vasso"


def define_config(
    values: flags.FlagValues = flags.FLAGS, argv: list[str] | None = None
) -> flags.FlagHolder[Any]:
    """The flag; `argv` are the arguments that will be parsed, None: those of this process."""
    return config_flags.DEFINE_config_file(
        "config",
        None,
        "Experiment: FILE.py[:METHOD], or the name of one that comes with the package.",
        flag_values=values,
        lock_config=False,
        accept_new_attributes=True,  # arguments that a section leaves at their defaults
        sys_argv=argv,
    )


def parse(
    argv: Sequence[str], values: flags.FlagValues = flags.FLAGS, others: Sequence[str] = ()
) -> list[str]:
    """absl's parser, with every error in flags, fields or config file as one message.

    Args:
        argv: the program and its arguments.
        values: the flags, with that of `define_config`.
        others: flags that the command has beside it, for its hints.

    Returns:
        The program alone.
    """
    for argument in argv:
        if match := re.match(r"--?config\.([^=]*)", argument):
            check_field(match[1])
    try:
        positional = values([with_path(argument) for argument in _joined(argv)])
    except flags.UnrecognizedFlagError as error:
        _fail_unrecognized(error, others)
    except flags.Error as error:
        # An error that a config raises about its argument comes with its whole trace.
        *trace, message = str(error).strip().splitlines()
        if "get_config() takes 0" in message:
            message = "this config takes no method after a colon"
        fail(message.removeprefix("ValueError: ") if trace else message)
    except Exception as error:  # the config file is code, and may raise anything
        if nested := [a for a in argv if re.match(r"--?config\.\w+\.\w+\.", a)]:
            _check_nested(nested, error)
        fail_to_load(error)
    if len(positional) > 1:
        fail(f"what is {positional[1]!r}? Fields are set as --config.epochs=5")
    if values["config"].value is None:
        fail(_NO_CONFIG)
    try:
        # A file that could not be loaded raises here, when it is first looked at.
        fields = set(values["config"].value)
    except Exception as error:  # as above
        fail_to_load(error)
    if missing := sorted(_FIELDS - fields):
        fail(
            f"the config lacks {', '.join(missing)}: begin it with vasso_jax.train.default_config()"
        )
    return positional


def load_config(experiment: str, fields: Sequence[str]) -> Config:
    """The config of `FILE[:METHOD]`, with arguments such as --config.epochs=5.

    Any error ends the process with one message.
    """
    argv = _joined(["", with_path(f"--config={experiment}"), *fields])
    values = flags.FlagValues()
    flag = define_config(values, argv)
    parse(argv, values)
    return flag.value


def config_path(experiment: str) -> pathlib.Path:
    """The file of FILE[:METHOD]; an error ends the process with one message."""
    return pathlib.Path(with_path(f"--config={experiment}").partition("=")[2].partition(":")[0])


def run_name(experiment: str) -> str:
    """cifar10_resnet18_sam for configs/cifar10_resnet18.py:sam"""
    file, _, method = experiment.partition(":")
    return "_".join(filter(None, (pathlib.Path(file).stem, method.replace(":", "."))))


def _joined(argv: Sequence[str]) -> list[str]:
    """The arguments, with --config FILE as --config=FILE."""
    text = "\0".join(argv)
    return re.sub(r"(^|\0)(--?config)\0(?!-)", r"\1\2=", text).split("\0")


def with_path(argument: str) -> str:
    """--config=NAME[:METHOD] of a config that comes with the package, with its path."""
    match = re.fullmatch(r"(--?config=)([^:]*)((?::.*)?)", argument)
    if match is None or pathlib.Path(match[2]).is_file():
        return argument
    if not match[2]:
        fail(_NO_CONFIG)
    if not re.fullmatch(r"\w+", match[2]):
        fail(f"there is no config file {match[2]}")
    shipped = _shipped_configs()
    path = shipped / f"{match[2]}.py"
    if not path.is_file():
        known = sorted(path.stem for path in shipped.glob("[a-z]*.py"))
        fail(
            f"there is no config {match[2]!r}.{did_you_mean(match[2], known)} Give a file, or one "
            f"of {', '.join(known)}"
        )
    return f"{match[1]}{path}{match[3]}"


def _shipped_configs() -> pathlib.Path:
    package = pathlib.Path(vasso_jax.__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def check_field(path: str) -> None:
    """Whether the config has this field; those of the sections are checked with their values."""
    field, _, rest = path.partition(".")
    if field in SECTIONS:
        if rest:
            return
        example = f"{field}.name" if SECTIONS[field] else f"{field}.FIELD"
        fail(f"{field} is a section of the config: set its fields, as --config.{example}=...")
    if field not in _FIELDS or rest:
        hint = _full_names(field) or did_you_mean(field, sorted(_FIELDS))
        fail(f"the config has no field {path!r}.{hint} --help_config lists all of them.")


def _check_nested(arguments: list[str], error: Exception) -> None:
    """Fails if the error comes from setting such a field, and not from the config file."""
    frames = traceback.extract_tb(error.__traceback__)
    if any(pathlib.Path(frame.filename).name == "config_path.py" for frame in frames):
        names = " or ".join(argument.partition("=")[0] for argument in arguments)
        fail(f"{names} cannot be set: the config has no such field")


def _full_names(field: str) -> str:
    from vasso_jax.train.config.help import full_names

    names = " or ".join(f"--config.{name}" for name in full_names(field))
    return f" Did you mean {names}?" if names else ""


def _fail_unrecognized(error: flags.UnrecognizedFlagError, others: Sequence[str]) -> NoReturn:
    name = error.flagname.removeprefix("config.")
    hint = _full_names(name.rpartition(".")[2]) or did_you_mean(name, ["config", *others])
    fail(f"there is no flag --{error.flagname}.{hint}")


def fail_to_load(error: Exception) -> NoReturn:
    """Ends the process with one message on what the config file raised."""
    # The last lines of a trace within an exception's text, or all of it, name file and line.
    message = "\n".join(str(error).strip().splitlines()[-5:])
    fail(f"the config file cannot be loaded: {type(error).__name__}: {message}")
