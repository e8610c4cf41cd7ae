"""Cost of a train step: time, FLOPs and memory of each method, measured in turn, over SGD's.

    python -m benchmarks.step [--model resnet18] [--image_size 32] [--batch_size 128]
        [--precision float32] [--methods METHOD ...] [--torch [eager] [tuned]] [--out FILE]

METHOD is `sgd` (the base alone), a method of the trainer such as `vasso`, optionally with fields as
in 'vasso refresh_every=5', or `optax.contrib.sam`. The others are compared with the first one.
'sgd again' checks the timing: without noise its ratio would be 1. Images are random and the same in
every step. The step is that of the trainer, without reading and augmentation of data. --torch adds
a plain PyTorch step (`eager`) and a tuned one. Prints a table; the JSON file has all the times.
"""

from rich.console import Console

from benchmarks.harness.arguments import Parser, one_message
from benchmarks.harness.results import write_json
from benchmarks.step.measurement import DEFAULT_METHODS, WAYS, measure
from benchmarks.step.table import table


@one_message()
def main() -> None:
    """The command above."""
    parser = Parser(
        __doc__,
        model="resnet18",
        image_size=32,
        batch_size=128,
        classes=10,
        precision="float32",
        rounds=10,
        steps=5,
    )
    parser.add_argument(
        "--methods", nargs="+", default=list(DEFAULT_METHODS), metavar="METHOD", help="see above"
    )
    parser.add_argument(
        "--torch", nargs="*", choices=WAYS, metavar="eager|tuned", help="add PyTorch's steps"
    )
    options = parser.parse_args()
    result = measure(options)
    if options.out:
        write_json(options.out, result)
    console = Console()
    Console(width=max(console.width, 120)).print(table(result))


if __name__ == "__main__":
    main()
