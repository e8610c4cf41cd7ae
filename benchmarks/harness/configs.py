"""Reads a config as main.py does."""

from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags


def read_config(arguments: Sequence[str]) -> ConfigDict:
    """The config that `--config=FILE[:METHOD]` and `--config.FIELD=VALUE` give.

    Args:
        arguments: these flags, each as one word.

    Raises:
        ValueError: the file is missing or cannot be loaded, or a field cannot be set.
    """
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file(
        "config",
        flag_values=values,
        lock_config=False,
        accept_new_attributes=True,  # arguments that a section leaves at their defaults
        sys_argv=["", *arguments],
    )
    try:
        others = values(["", *arguments])[1:]
        config = holder.value
        if config is not None:
            set(config)  # a file that could not be loaded raises here
    except Exception as error:  # the file is code, and may raise anything
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ValueError(f"the config cannot be read: {last.strip()}") from error
    if others:
        raise ValueError(f"what is {others[0]!r}? Fields are set as --config.FIELD=VALUE")
    if config is None:
        raise ValueError("give an experiment, as --config=configs/digits_vasso.py")
    return config
