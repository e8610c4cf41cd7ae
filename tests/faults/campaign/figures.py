"""What a campaign counts, and its table."""

import collections
import statistics
import traceback


class Figures:
    """Counts of outcomes, durations, and failures.

    Attributes:
        failures: of each failed trial what failed, and where: {"part", "trial", "what"}.
    """

    def __init__(self):
        self.failures = []
        self._counts = collections.Counter()
        self._seconds = collections.defaultdict(list)

    def count(self, part, kind, outcome):
        """Counts one outcome of one kind of fault."""
        self._counts[part, kind, outcome] += 1

    def time(self, part, what, seconds):
        """Keeps how long something took."""
        self._seconds[part, what].append(seconds)

    def fail(self, part, trial, error):
        """Keeps a failure."""
        what = str(error) if isinstance(error, Failure) else traceback.format_exc()
        print(f"FAILED: {part}, trial {trial}: {what}", flush=True)
        self.failures.append({"part": part, "trial": trial, "what": what})

    def total(self, part):
        """How many outcomes of a part were counted."""
        return sum(n for (of, _, _), n in self._counts.items() if of == part)

    def as_json(self):
        """All of it."""
        return {
            "counts": [[*key, number] for key, number in sorted(self._counts.items())],
            "seconds": [
                [*key, *_median_and_maximum(seconds), len(seconds)]
                for key, seconds in sorted(self._seconds.items())
            ],
            "failures": self.failures,
        }

    def table(self):
        """The lines of the table at the end."""
        for part, kind, outcome in sorted(self._counts):
            yield f"{part:<14} {kind:<34} {outcome:<26} {self._counts[part, kind, outcome]:>6}"
        for (part, what), seconds in sorted(self._seconds.items()):
            median, maximum = _median_and_maximum(seconds)
            yield f"{part:<14} {what:<34} median {median:.2f} s, at most {maximum:.2f} s"
        yield f"{len(self.failures)} trials failed"


class Failure(Exception):
    """A run did what none may do."""


def _median_and_maximum(seconds):
    return round(statistics.median(seconds), 3), round(max(seconds), 3)
