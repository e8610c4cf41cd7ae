"""Trains a network: vasso-jax train --config=FILE[:METHOD] [--workdir=DIR] [--config.FIELD=VALUE]

For example: vasso-jax train --config=digits:vasso. In a clone, python main.py is the same. FILE is
a Python file, or the name of a config that comes with the package, such as cifar10_resnet18; METHOD
is vasso, sam, asam, none (the base optimizer alone) or another one. Any field can be set, as
--config.method.rho=0.1 --config.epochs=5; --help_config lists all of them. The last line of
standard output is the result as one JSON object. Exit status: 0 finished; 2 wrong input or
environment, with one message on standard error; 75 where the run hung, lost or did not find
another process, or computed a step twice with two results; 128 + signal number where a signal
stopped it. After the latter two, the same command resumes it at its last checkpoint.
"""

import json
import os
import signal
import sys
from typing import NoReturn

from absl import app, flags
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

from vasso_jax.cli.config_file import define_config, parse, run_name
from vasso_jax.cli.failure import fail, print_error
from vasso_jax.cli.interruption import EndedByCtrlC
from vasso_jax.train.config.fields import Config
from vasso_jax.train.errors import UsageError
from vasso_jax.train.reporting.quiet import quieten_libraries

_CONFIG = define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "Run folder; default: runs/NAME_OF_THE_CONFIG.")
_HELP_CONFIG = flags.DEFINE_bool("help_config", False, "List every field of the config.")


def main(arguments: list[str] | None = None) -> None:
    """The command with its arguments; None: those of this process."""
    if arguments is None:
        arguments = sys.argv[1:]
    if {"-h", "--help"} & {*arguments}:
        print(__doc__)
        return
    app.run(
        _main,
        argv=[sys.argv[0], *arguments],
        flags_parser=lambda argv: parse(argv, others=["workdir"]),
    )


def _print_fields() -> None:
    from vasso_jax.train.config.help import fields_of

    table = Table("field", "value", "meaning", box=None, pad_edge=False)
    for name, value, meaning in fields_of(_CONFIG.value):
        table.add_row(f"--config.{name}", str(value), meaning)
    Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False).print(table)


def _main(argv: list[str]) -> None:
    del argv
    quieten_libraries()
    if _HELP_CONFIG.value:
        try:
            _print_fields()
        except ValueError as error:
            fail(error)
        return
    name = run_name(config_flags.get_config_filename(flags.FLAGS["config"]))
    run_here(_CONFIG.value, _WORKDIR.value or f"runs/{name}")


def run_here(config: Config, workdir: str) -> None:
    """Runs a config in this process, with the output and the exit status that are said above."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    with EndedByCtrlC(lambda: "interrupted; what was saved before is kept"):
        # JAX and all that comes with it load only once the command line has been understood.
        from vasso_jax.train import Stopped, check, run_plan, usage_errors
        from vasso_jax.train.devices import processes
        from vasso_jax.train.devices.compiled_programs import keep_compiled_programs

        try:
            with usage_errors():
                plan = check(config)
            keep_compiled_programs()
            result = run_plan(plan, workdir)
        except UsageError as error:
            fail_in_cluster(error)
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            sys.exit(128 + stopped.signal_number)
    if processes.is_first():
        print(json.dumps(result), flush=True)


def fail_in_cluster(error: UsageError) -> NoReturn:
    """Ends the process, which may belong to a cluster, with the message and status of the error."""
    from vasso_jax.train.devices import processes

    print_error(error)
    if processes.joined():
        # An ordinary end would wait for the other processes, and they for this one.
        os._exit(error.status)
    sys.exit(error.status)
