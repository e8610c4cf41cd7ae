"""Writes a run as one file that can be used without this package:

vasso-jax export RUN FILE [--torch]

RUN is a run folder; RUN@best and RUN@STEP pick another checkpoint than the newest. FILE.jaxexport
gets a program from uint8 images to probabilities, with the weights and the normalisation inside,
for CPUs, GPUs and TPUs; it runs where jax and flatbuffers are installed. FILE.safetensors gets the
weights alone; with --torch under PyTorch's names, for the authors' networks and torchvision's. The
last line of output has the class names, which a program cannot hold, as a JSON list in the order of
the probabilities. Exit status: 0; 2 if the run cannot be used or the file not be written, with one
message.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence

from safetensors.numpy import save

from vasso_jax.cli.failure import fail
from vasso_jax.inference import exported_program, load_run, named_weights
from vasso_jax.printable import printable
from vasso_jax.runs import write_bytes
from vasso_jax.train.checkpoints.checkpoint import split_name
from vasso_jax.train.errors import UsageError, usage_errors
from vasso_jax.train.reporting.quiet import quieten_libraries


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see above.

    Args:
        arguments: of the command line, without the program; None: those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="vasso-jax export",
        description="Writes a run as one file that can be used without this package.",
    )
    parser.add_argument("run", metavar="RUN", help="run folder; @best or @STEP picks a checkpoint")
    parser.add_argument(
        "file", type=pathlib.Path, metavar="FILE", help="to write: .jaxexport or .safetensors"
    )
    parser.add_argument(
        "--torch", action="store_true", help="weights under the names that PyTorch networks have"
    )
    options = parser.parse_args(arguments)
    ending = options.file.suffix.lower()
    if ending not in (".jaxexport", ".safetensors"):
        parser.error(f"FILE must end in .jaxexport or .safetensors, got {options.file}")
    weights = ending == ".safetensors"
    if options.torch and not weights:
        parser.error("--torch is for weights: give a FILE.safetensors")
    quieten_libraries()
    target = options.file.resolve()  # a link stays one
    if target.is_relative_to(pathlib.Path(split_name(options.run)[0]).resolve()):
        parser.error(f"{options.file} lies in the run folder: give another place")
    if target.exists() and not target.is_file():
        parser.error(f"{options.file} exists and is no file")
    try:
        run = load_run(*split_name(options.run))
        with usage_errors():
            if weights:
                about = {"model": run.settings["model"]["name"], "step": str(run.step)}
                about["class_names"] = json.dumps(run.class_names)
                content = save(named_weights(run, torch_names=options.torch), metadata=about)
            else:
                content = exported_program(run)
            write_bytes(target, content)
    except UsageError as error:
        fail(error)
    print(printable(f"wrote {options.file}") + f" ({len(content) / 1e6:.1f} MB), step {run.step}")
    if not weights:
        height, width, channels = run.preprocessing.image_shape
        print(f"images: uint8 [N, {height}, {width}, {channels}]")
    print(f"classes: {json.dumps(run.class_names)}")
