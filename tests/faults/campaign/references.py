"""The runs of a campaign: their settings, how they end when nothing interrupts them."""

import json

import numpy as np

from tests import runs
from tests.faults.campaign.figures import Failure
from tests.faults.campaign.starts import Start

VARIANTS = {
    "plain": (),
    "validation and EMA": ("validation.share=0.1", "ema_decay=0.9"),
    "microbatches": ("microbatches=2",),
    "records within epochs": ("record_every_steps=4",),
    "every epoch kept": ("epochs=3", "keep_every_epochs=1", "keep_last=1"),
}


def arguments(name, workdir):
    """Those of main.py for a variant."""
    return runs.arguments(workdir, *runs.SHORT, *VARIANTS[name])


class Reference:
    """An unbroken run, to which interrupted and damaged ones are compared.

    Attributes:
        name: of its variant.
        workdir: its folder.
        seconds: from the start of its warm process to the end.
    """

    def __init__(self, name, workdir, seconds):
        self.name = name
        self.workdir = workdir
        self.seconds = seconds
        self._records = runs.records(self.workdir)
        steps = runs.steps_saved(self.workdir)
        for_good = steps if "keep_every_epochs=1" in VARIANTS[name] else steps[-1:]
        self._arrays = {step: runs.checkpoint(self.workdir, step) for step in for_good}

    def arguments(self, workdir):
        """Those of main.py for this run in another folder."""
        return arguments(self.name, workdir)

    def check_same(self, workdir, *, healed=False):
        """Raises a Failure unless the run in `workdir` ended with the same records and bits.

        Args:
            workdir: of a run that has finished.
            healed: whether it may say that it healed damage.

        Returns:
            Whether it says so.
        """
        records = runs.records(workdir)
        kept = [record for record in records if not (healed and record["split"] == "healed")]
        if kept != self._records:
            raise Failure(f"records {json.dumps(kept)}, expected {json.dumps(self._records)}")
        last, saved = max(self._arrays), runs.steps_saved(workdir)
        # Earlier ones can be among the damaged.
        expected = {last} if healed else {*self._arrays}
        if saved[-1:] != [last] or not expected <= {*saved}:
            raise Failure(f"checkpoints of the steps {saved}, expected {expected}")
        for step in expected:
            ours, theirs = runs.checkpoint(workdir, step), self._arrays[step]
            names = [name for name in theirs if not same_bits(ours.get(name), theirs[name])]
            if names or ours.keys() != theirs.keys():
                raise Failure(
                    f"other arrays at step {step}: {names}, {ours.keys() ^ theirs.keys()}"
                )
        return len(kept) < len(records)


def same_bits(one, other):
    """Whether two arrays are the same, NaN and the sign of 0 included."""
    return (
        one is not None
        and (one.shape, one.dtype) == (other.shape, other.dtype)
        and np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()
    )


class References:
    """The references that are needed, each made when it is asked for first."""

    def __init__(self, scratch, made=None):
        """`made`: those to draw from; None: all variants."""
        self._scratch = scratch
        self._names = [*(made or VARIANTS)]
        self._made = dict(made or {})

    def draw(self, random):
        """That of a random variant."""
        name = random.choice(self._names)
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name):
        """Runs it twice, the first time to compile its programs."""
        for i in range(2):
            workdir = self._scratch / f"unbroken{len(self._made)}_{i}"
            end = Start(arguments(name, workdir), self._scratch).end()
            if end.status:
                raise Failure(f"{name}: the unbroken run ends with {end.status}: {end.err}")
        return Reference(name, workdir, end.seconds)
