"""Trains a network: python main.py --config=configs/digits_vasso.py [--workdir=DIR]

Any field of the config can be overridden: --config.rho=0.1 --config.epochs=5. The last line of
standard output is the result as one JSON object. Exit status: 0 finished; 2 wrong input or
surroundings, with one message on standard error; 128 + signal number where a signal stopped the
run, which has saved and goes on when the same command is given again.
"""

import json
import pathlib
import re
import sys
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment, one of configs/*.py.")
_NEAR = r'Did you mean "(\w+)"'
_WORKDIR = flags.DEFINE_string("workdir", None, "Run folder; default: runs/NAME_OF_THE_CONFIG.")


def _parse(argv: list[str]) -> list[str]:
    """absl's flag parser, with its errors and those of the config file as one message."""
    try:
        positional = flags.FLAGS(argv)
        if _CONFIG.value is None:
            raise flags.Error("give an experiment, as --config=configs/digits_vasso.py")
        # A file that could not be loaded raises when it is first looked at.
        _CONFIG.value.is_locked  # noqa: B018
        if len(positional) > 1:
            raise flags.Error(f"what is {positional[1]!r}? Fields are set as --config.epochs=5")
    except (AttributeError, KeyError) as error:
        # From ml_collections, with the names in quotes within quotes.
        field, near = re.search(r"\w+", str(error)), re.search(_NEAR, str(error))
        hint = f" Did you mean {near[1]}?" if near else ""
        name = field[0] if field else ""
        _fail(f"the config has no field {name!r}.{hint} All fields are in configs/default.py.")
    except (flags.Error, TypeError, ValueError, OSError) as error:
        _fail(error)
    return positional


def _fail(message: object) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def main(argv: list[str]) -> None:
    del argv
    # JAX and all that comes with it load only once the command line has been understood.
    from vasso_jax.train import Stopped, UsageError, train

    # The libraries below are talkative; our own output is on standard output.
    logging.set_verbosity(logging.ERROR)
    name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    try:
        result = train(_CONFIG.value, _WORKDIR.value or f"runs/{name}")
    except UsageError as error:
        _fail(error)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(128 + stopped.signal_number)
    else:
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
