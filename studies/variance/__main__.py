"""Does VaSSO's average suppress the variance of SAM's direction? Measured along training runs.

    python -m studies.variance [--lrs 0.005 0.05 0.2 0.5] [--epochs 20] [--streams 16] [--seed 0]
        [--results FILE] [--figure FILE]
    python -m studies.variance --redraw

The claim of Li and Giannakis (arXiv 2309.15639): where a minibatch's gradient g has the variance
sigma^2 = E||g - G||^2 about the gradient G of the whole training loss, SAM's direction d = g has
the mean squared error E||d - G||^2 = sigma^2, and the average d = (1 - theta) d + theta g at most
about theta sigma^2, plus a term for how far the parameters have moved. Of parameters at rest it
tends to theta / (2 - theta) sigma^2; a drift of G adds the square of (1 - theta) / theta steps.

For each learning rate a network is trained by the trainer's step with the optimizer of
configs/digits_vasso.py, and its parameters kept at every step. Along this fixed trajectory, for
each theta, streams of minibatches go through the very transform `suppress_variance(theta)`:

    independent   each minibatch drawn anew with replacement, as the theorem has it
    shuffled      epochs in random order, as the trainer's, but not the order that made the run
    own           the order that made the run: one stream, on which the parameters depend

The network is a perceptron. With BatchNorm an example's gradient would depend on the rest of its
minibatch: minibatch gradients would be biased against G, and sigma would not be what is averaged
away. Convolutions would only make it slow. Images are not augmented, so that G is exact, and
neither G nor d has the weight decay.

Writes a JSON file and a picture (results/study.json and results/figure.png), and prints one JSON
line per learning rate. A ratio is one of means over the steps of a tenth of the run; its standard
error is over the streams. `--redraw` draws the picture again from the JSON file.
"""

import pathlib

from benchmarks.harness.arguments import Parser, one_message
from benchmarks.harness.results import read_json, write_json
from studies.variance.figure import plot
from studies.variance.measurement import measure

HERE = pathlib.Path(__file__).parent


@one_message()
def main(arguments: list[str] | None = None) -> None:
    """The commands above.

    Args:
        arguments: of the command line, without the program; None: those of this process.
    """
    parser = Parser(__doc__)
    parser.add_argument("--lrs", type=float, nargs="+", default=[0.005, 0.05, 0.2, 0.5])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--streams", type=int, default=16, help="of each sampling (16)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--redraw", action="store_true", help="draw the figure, and train nothing")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results/study.json")
    parser.add_argument("--figure", type=pathlib.Path, default=HERE / "results/figure.png")
    options = parser.parse_args(arguments)
    if not options.redraw:
        record = measure(
            options.lrs,
            epochs=options.epochs,
            batch_size=options.batch_size,
            streams=options.streams,
            seed=options.seed,
        )
        write_json(options.results, record)
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    plot(read_json(options.results), options.figure)


if __name__ == "__main__":
    main()
