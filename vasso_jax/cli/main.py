"""vasso-jax COMMAND ...: trains, sweeps, predicts, compares, prepares data, imports weights."""

import os
import sys

from vasso_jax.cli.interruption import leave_on_interrupt

# The module of each command, with its function `main(arguments)`, and what it does.
COMMANDS = {
    "train": ("train", "train an experiment: vasso-jax train --config=digits:vasso"),
    "sweep": ("sweep", "train a config with several seeds, methods and values, and compare"),
    "find-lr": ("find_lr", "look for the learning rate of a config in a short training"),
    "predict": ("predict", "predict the classes of images with the network of a run"),
    "export": ("export", "write a run as one file that needs no vasso_jax"),
    "compare": ("compare", "compare runs over their seeds"),
    "sharpness": ("sharpness", "measure how sharp the minima of runs are"),
    "prepare": ("prepare", "download a data set and prepare it for training"),
    "import-torch": ("import_torch", "turn a PyTorch checkpoint into a run folder"),
}


def main() -> None:
    """Runs the command that the first argument names with the others."""
    leave_on_interrupt()
    _end_with_the_reader()
    # Local, as Ctrl-C must have its handler before anything that takes time to load.
    import argparse

    import vasso_jax

    lines = "".join(f"  {name:<13} {what}\n" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="vasso-jax",
        description="Sharpness-aware training with variance suppression (VaSSO).",
        epilog=f"commands:\n{lines}\nvasso-jax COMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=vasso_jax.__version__)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    options = parser.parse_args(sys.argv[1:2])
    run(options.command, sys.argv[2:])


def run(command: str, arguments: list[str] | None = None) -> None:
    """One command with its arguments; None: those of this process."""
    leave_on_interrupt()
    _end_with_the_reader()
    import importlib

    # Modules of the user's own lie there, as for `python -m`.
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(f"vasso_jax.cli.{COMMANDS[command][0]}")
    except ModuleNotFoundError as error:
        print(
            f"error: vasso-jax {command} needs more than the optimizers ({error}): "
            "pip install 'vasso_jax[train]'",
            file=sys.stderr,
        )
        sys.exit(2)
    try:
        module.main(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        import signal

        # In a command that ignores the signal; Python would complain again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _end_with_the_reader() -> None:
    """Lets the process end without a word when nobody reads on, as with `| head`.

    Commands that write to more than their output, such as sockets, ignore the signal again.
    """
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
