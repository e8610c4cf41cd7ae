"""How much accuracy for how much compute? The cheaper methods beside SGD, SAM and VaSSO.

    python -m studies.compute --tune [--processes 2]
    python -m studies.compute [--processes 2] [--seeds 5]
    python -m studies.compute --redraw

The first two go on where they stopped. The first chooses a radius and writes results/tuning.json;
the second, which reads that, runs the study and writes results/study.json and results/figure.png;
the third draws the figure again from the numbers that are there.

The protocol, fixed before the first run of the study:

Question   SAM and VaSSO evaluate two gradients per step. Is that better than SGD for as many
           gradients, and what do the variants lose that need fewer?
Data       scikit-learn's digits with the project's fixed split: 1,438 training and 359 test images.
Methods    SGD; SAM; VaSSO with theta 0.4; VaSSO whose direction is refreshed at every fifth step
           (`refresh_every=5`); VaSSO that perturbs in the last sixth of the epochs only (the
           section `window`); VaSSO whose direction follows the gradients of the updates
           (`refresh="descent"`); Momentum-SAM.
Runs       configs/digits.py (WRN-10-1, SGD with momentum 0.9, lr 0.05 cosine, weight decay 5e-4,
           batch 128). Each method for 15 and 30 epochs, and for 60 those whose run then evaluates
           no more than 60 gradients per training image: each length is a run with its own
           schedule. Seeds 0, 1, 2, ... set the weights, the order and the augmentation: at one
           seed all methods see the same, so that differences are paired.
Compute    Gradient evaluations per image: all gradients of minibatches in a run over the steps of
           an epoch, counted from what the method does at each step (`methods.py`; a test compares
           that with the steps as they are executed).
Radii      Momentum-SAM's is the best of 0.1, 0.3, 1 and 3 by the accuracy at the last epoch of 30,
           mean over seeds 100 and 101 (at a tie the smaller one). No test image takes part: the
           1,438 training images alone are split into quarters, of which seed 100 leaves out the
           first and seed 101 the second for validation. All others have the 0.1 of
           configs/digits.py: they were not tuned for this study. (To choose those too was begun,
           and given up for the time it takes. At seed 100, SAM had 354, 352 and 352 of 360
           validation images right with 0.05, 0.1 and 0.2, VaSSO 355 and 352 with 0.05 and 0.1: a
           smaller radius may be a little better. Before, one run of six epochs per method was
           made and tested at seed 200, in which Momentum-SAM had 0.3.)
Measure    Test error at the last epoch, never of the best one: mean over seeds with a 95 %
           Student-t interval. Differences in accuracy are paired by seed, with such an interval,
           not corrected for how many of them there are: to SGD for as many evaluations, and to SGD
           and VaSSO for as many epochs.
"""

import pathlib
import signal
import sys

from benchmarks.harness.arguments import Parser, one_message, positive
from studies.compute import study

HERE = pathlib.Path(__file__).parent


@one_message()
def main(arguments: list[str] | None = None) -> None:
    """The commands above.

    Args:
        arguments: of the command line, without the program; None: those of this process.
    """
    parser = Parser(__doc__)
    parser.add_argument("--tune", action="store_true", help="choose the radius of Momentum-SAM")
    parser.add_argument("--redraw", action="store_true", help="draw the figure, and train nothing")
    parser.add_argument("--processes", type=positive, default=2, help="runs at once, a core each")
    parser.add_argument("--seeds", type=positive, default=5, help="how many: 0, 1, 2, ...")
    parser.add_argument("--epochs", type=positive, nargs="+", default=[15, 30, 60])
    parser.add_argument(
        "--most", type=positive, default=60, help="evaluations per image; longer runs are left out"
    )
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/compute"))
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
