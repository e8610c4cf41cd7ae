"""Turns a PyTorch checkpoint of the authors' code, or of torchvision, into a run folder:

vasso-jax import-torch MODEL CHECKPOINT.pth FOLDER

MODEL is a name such as resnet18. To train from these weights, give --config.model.name=MODEL
--config.init_from=FOLDER; with --config.epochs=0 they are only evaluated. Needs torch. Only tensors
are read from the file, no other pickled objects.
"""

import argparse
import io
import pathlib
from typing import Any

from absl import logging

from vasso_jax.cli.failure import fail
from vasso_jax.files import read_file
from vasso_jax.models import from_torch
from vasso_jax.printable import printable
from vasso_jax.train.checkpoints.weights import write_run
from vasso_jax.train.errors import UsageError

# Where training scripts put the weights, next to optimizer state and epoch.
_KEYS = ("model", "state_dict", "model_state_dict", "net")


def main(arguments: list[str] | None = None) -> None:
    """The command; see above."""
    parser = argparse.ArgumentParser(
        prog="vasso-jax import-torch", description="Turns a PyTorch checkpoint into a run folder."
    )
    parser.add_argument("model", help="name of the network, such as resnet18")
    parser.add_argument("checkpoint", type=pathlib.Path, help="the .pth file")
    parser.add_argument("folder", help="folder of the new run")
    args = parser.parse_args(arguments)
    logging.set_verbosity(logging.ERROR)  # orbax warns of a checkpoint without metrics
    try:
        write_run(args.folder, from_torch(args.model, _state_dict(args.checkpoint)))
    except (UsageError, ValueError, OSError) as error:
        fail(error)
    given = f"--config.model.name={args.model} --config.init_from={args.folder}"
    print(printable(f"wrote {args.folder}: {given}"))


def _state_dict(path: pathlib.Path) -> dict[str, Any]:
    """The weights in the file.

    Raises:
        ValueError: torch is missing, or the file holds no weights.
        OSError: the file cannot be read.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("reading a .pth file needs PyTorch: pip install torch") from error
    # In memory, where no length in a damaged file can make torch ask for more than there is.
    file = io.BytesIO(read_file(path))
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch raises, it advises to load any Python object
        raise ValueError(
            f"{path} cannot be read as weights: it is damaged, or holds other Python objects, "
            "which are never loaded. Save the weights alone: torch.save(model.state_dict(), path)"
        ) from error
    for key in _KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    entries = content.items() if isinstance(content, dict) else ()
    if not entries or not all(isinstance(k, str) and torch.is_tensor(x) for k, x in entries):
        raise ValueError(f"{path} holds no state dict, alone or under one of {', '.join(_KEYS)}")
    # A tensor may repeat what is stored once, and have any size.
    size = file.getbuffer().nbytes
    for key, tensor in entries:
        if tensor.numel() * tensor.element_size() > size:
            raise ValueError(
                f"{path} is damaged: {key} has more numbers than there are in the file"
            )
    return content
