"""Interrupts and damages runs, and gives them wrong input, for as long as it is told.

python -m tests.faults.campaign [--seed 0] [--minutes 60] [--out FILE]

Each trial draws from its own seed. --part damages --trial 17 repeats one; the moment of a signal is
then again a random one. The exit status is 1 if a trial failed.
"""

import json
import pathlib
import random
import sys
import tempfile
import time

from benchmarks.harness.arguments import Parser, one_message, settings
from benchmarks.harness.results import write_json
from tests.faults.campaign import damages, inputs, interruptions
from tests.faults.campaign.figures import Figures
from tests.faults.campaign.references import References
from vasso_jax.train.reporting.quiet import quieten_libraries

# Share of the time.
PARTS = {interruptions.PART: 0.5, damages.PART: 0.4, inputs.PART: 0.1}
_SECONDS_BETWEEN_LINES = 30


class Campaign:
    """The trials of one seed."""

    def __init__(self, seed, scratch):
        self.figures = Figures()
        self._seed = seed
        self._scratch = scratch
        self._references = References(scratch)
        self._interrupted = damages.Interrupted(self._references, scratch)
        self._checker = inputs.Checker()

    def run(self, part, number):
        """One trial of a part."""
        draw = random.Random(f"{self._seed} {part} {number}")
        with tempfile.TemporaryDirectory(dir=self._scratch, ignore_cleanup_errors=True) as scratch:
            scratch = pathlib.Path(scratch)
            try:
                if part == interruptions.PART:
                    interruptions.trial(draw, self._references, scratch, self.figures)
                elif part == damages.PART:
                    damages.trial(draw, self._interrupted, scratch, self.figures)
                else:
                    inputs.trial(draw, self._checker, scratch, self.figures)
            except Exception as error:  # whatever it is, the other trials go on
                self.figures.fail(part, number, error)

    def close(self):
        """Ends the processes that serve several trials."""
        self._checker.close()


@one_message()
def main():
    """The command above."""
    parser = Parser(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of all trials (0)")
    parser.add_argument("--minutes", type=float, default=60, help="how long it goes on (60)")
    parser.add_argument("--part", choices=PARTS, help="only this one")
    parser.add_argument("--trial", type=int, help="only this one, of --part")
    options = parser.parse_args()
    if options.trial is not None and not options.part:
        parser.error("--trial needs --part")
    quieten_libraries()
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="campaign_", ignore_cleanup_errors=True) as scratch:
        campaign = Campaign(options.seed, pathlib.Path(scratch))
        try:
            if options.trial is not None:
                campaign.run(options.part, options.trial)
            else:
                _go_on(campaign, [options.part] if options.part else [*PARTS], options.minutes)
        finally:
            campaign.close()
    print(*campaign.figures.table(), sep="\n")
    if options.out:
        minutes = round((time.time() - started) / 60, 1)
        content = {"settings": settings(options), "took_minutes": minutes}
        write_json(options.out, content | campaign.figures.as_json())
    sys.exit(1 if campaign.figures.failures else 0)


def _go_on(campaign, parts, minutes):
    """Trials of the parts in turn, each for its share of the time."""
    started = said = time.monotonic()
    spent = dict.fromkeys(parts, 0.0)
    trials = dict.fromkeys(parts, 0)
    while (now := time.monotonic()) < started + 60 * minutes:
        part = min(parts, key=lambda part: spent[part] / PARTS[part])
        campaign.run(part, trials[part])
        spent[part] += time.monotonic() - now
        trials[part] += 1
        if time.monotonic() > said + _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            counted = {part: campaign.figures.total(part) for part in parts}
            failed = len(campaign.figures.failures)
            line = {"minutes": round((said - started) / 60, 1), **counted, "failed": failed}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
