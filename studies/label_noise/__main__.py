"""Does variance suppression help where training labels are wrong? A small study on the CPU.

    python -m studies.label_noise --tune [--processes 2]
    python -m studies.label_noise [--processes 2] [--seeds 5]
    python -m studies.label_noise --redraw

The first two go on where they stopped. The first chooses the radii and writes results/tuning.json;
the second, which reads that, runs the study and writes results/study.json and results/figure.png;
the third draws the figure again from the numbers that are there.

The protocol, fixed before the first run of the study:

Question   Li and Giannakis (arXiv 2309.15639) report for ResNet-18 on CIFAR-10 that VaSSO gains
           most over SAM where many labels are wrong, and with a smaller theta. Does that hold for
           a small network on few images?
Data       scikit-learn's digits with the project's fixed split: 1,438 training images, of whose
           labels 0, 25, 50 or 75 % are replaced by another class, each equally likely; 359 test
           images with true labels.
Runs       configs/digits.py (WRN-10-1, SGD with momentum 0.9, lr 0.05 cosine, weight decay 5e-4,
           batch 128, 30 epochs) with SGD alone, SAM, ASAM, and VaSSO with theta 0.9, 0.4 and
           0.2. Seeds 0, 1, 2, ... set the weights, the order and the augmentation, and which
           labels are wrong: at one seed all methods see the same, so that differences are paired.
Radii      Each of the five methods has its own, and one for all noise rates: the best of RADII by
           the accuracy at the last epoch with 50 % wrong labels, mean over seeds 100 and 101 (at a
           tie the smaller one). No test image takes part: the 1,438 training images alone are
           split into quarters, of which seed 100 leaves out the first and seed 101 the second for
           validation, with true labels. If the best radius is the least or the largest, the range
           is extended on that side by a factor of two until it is not. (Before the ranges were set,
           SAM at seed 100 was seen to fall to 71 and 42 % with 0.4 and 0.8.)
Measure    Test top-1 at the last epoch; mean and standard deviation over seeds; VaSSO minus SAM and
           minus SGD as means of paired differences with 95 % Student-t intervals, not corrected for
           how many of them there are.
"""

import pathlib
import signal
import sys

from benchmarks.harness.arguments import Parser, one_message, positive
from studies.label_noise import study

HERE = pathlib.Path(__file__).parent


@one_message()
def main(arguments: list[str] | None = None) -> None:
    """The commands above.

    Args:
        arguments: of the command line, without the program; None: those of this process.
    """
    parser = Parser(__doc__)
    parser.add_argument("--tune", action="store_true", help="choose the radii")
    parser.add_argument("--redraw", action="store_true", help="draw the figure, and train nothing")
    parser.add_argument("--processes", type=positive, default=2, help="runs at once, a core each")
    parser.add_argument("--seeds", type=positive, default=5, help="how many: 0, 1, 2, ...")
    parser.add_argument("--epochs", type=positive, default=30)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/label_noise"))
    parser.add_argument("--rates", type=float, nargs="+", default=study.RATES, help="wrong labels")
    parser.add_argument("--figure", type=pathlib.Path, default=HERE / "results/figure.png")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results", help="folder")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if options.redraw:
        study.redraw(options)
    elif options.tune:
        study.tune(options)
    else:
        study.run(options)


if __name__ == "__main__":
    main()
