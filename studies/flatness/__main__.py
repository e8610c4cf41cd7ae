"""Does VaSSO end in flatter minima than SAM? A small study on the CPU.

    python -m studies.flatness [--data digits] [--processes 2] [--seeds 5]
    python -m studies.flatness --redraw

The first trains, measures, and writes results/digits.json and results/figure.png; it goes on where
it stopped. The second draws the figure and prints the tables from the numbers that are there.
`--data cifar10` is the small one below, of which there are only tables.

The protocol, fixed before the first run was measured:

Question   Li and Giannakis (arXiv 2309.15639, section 5.3 and figure 4) report that VaSSO ends in
           flatter minima than SAM, by the largest eigenvalue of the Hessian and its ratio to the
           fifth, and flatter with a smaller theta. Does that hold for a small network on digits,
           and does the flatter minimum have the better test accuracy?
Data       scikit-learn's digits with the project's fixed split: 359 test images; of the 1,438
           training images 15 % are held out for validation, the same ones in all runs.
Runs       configs/digits.py (WRN-10-1, SGD with momentum 0.9, lr 0.05 cosine, weight decay 5e-4,
           batch 128, 30 epochs) with SGD alone, SAM, ASAM, and VaSSO with theta 0.9, 0.4 and 0.2,
           each with four radii, `RADII`. At one seed all see the same weights, order and
           augmentation, so that differences are paired.
Radii      Compared are runs of equal radii, 0.1 (0.5 for ASAM, whose radius is relative to the
           parameters), and of tuned ones: for each method the one with the best validation top-1,
           each run by its best epoch, in the mean over the seeds; at a tie the smallest.
Measured   At the last epoch, on all 1,222 images that are trained on, with running statistics of
           BatchNorm, without augmentation, dropout, weight decay and label smoothing: the five
           largest eigenvalues of the Hessian, its trace (30 Hutchinson samples), and the worst loss
           increase in a ball, of each batch of 128 by itself as in arXiv 2302.07011: plain L2 with
           the radius 0.05, adaptive L2 with 0.25, and adaptive L-infinity with 0.005 and normalised
           logits. (The radii were chosen on one run, SGD with seed 0, for increases of 0.06 to 0.4
           nats on the whole set.)
Reported   Mean with 95 % Student-t interval over seeds; VaSSO minus SAM, SAM minus SGD and so on as
           means of paired differences of the logarithm (of the accuracy: of itself), as the figures
           differ by factors, not corrected for how many there are; and Kendall's tau between each
           measure and the test accuracy over all runs, and over the runs of each method.

With `--data cifar10` (in $TFDS_DATA_DIR, or ~/tensorflow_datasets), also fixed before its first
run: the same questions, methods, network and report; 1,024 training and 2,000 test images, drawn
once; the settings of configs/cifar10_vasso.py (weight decay 1e-3) without augmentation, so that the
loss is that of the images, for 30 epochs; only the equal radii, and none held out. Measured on 256
of the training images: the five largest eigenvalues and the trace (10 samples). (Planned were five
seeds, 512 images, and the worst case in the plain L2 ball. It was cut to three seeds and this for
time, when two runs were measured so, of SGD and SAM.)
"""

import pathlib
import signal
import sys

from benchmarks.harness.arguments import Parser, one_message, positive
from studies.flatness import study

HERE = pathlib.Path(__file__).parent


@one_message()
def main(arguments: list[str] | None = None) -> None:
    """The commands above.

    Args:
        arguments: of the command line, without the program; None: those of this process.
    """
    parser = Parser(__doc__)
    parser.add_argument("--data", choices=study.PROTOCOLS, default="digits")
    parser.add_argument("--redraw", action="store_true", help="draw the figure, and train nothing")
    parser.add_argument("--processes", type=positive, default=2, help="runs at once, a core each")
    parser.add_argument("--seeds", type=positive, default=5, help="how many: 0, 1, 2, ...")
    parser.add_argument("--epochs", type=positive, default=30)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/flatness"))
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results", help="folder")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if not options.redraw:
        study.run(options)
    study.redraw(options)


if __name__ == "__main__":
    main()
