"""Whether the records of a run follow on each other: none was lost, doubled or moved.

With s steps per epoch, and n steps between two records within an epoch, the trainer writes

    train_steps     at the steps n, 2 n, ..., each before the record of the epoch that it belongs to
    train           of the epochs 1, 2, ..., at the steps s, 2 s, ...
    validation or test, and sharpness       at the step of the last `train` (0 if nothing is
                    trained), once each
    test of the best checkpoint, and then of the last one       after a validation

What the file alone cannot tell: whether an evaluation or a measurement of the sharpness is missing,
as an epoch may have none, and either can fail; in which order these two came, or two tests of one
best checkpoint, as of a run that was extended; and whether there were further records at the end,
as of a run that was killed there are none. `fingerprint.py` tells it with what a checkpoint says.
"""

from collections.abc import Mapping
from typing import Any


class Continuity:
    """Follows the records of a run, one by one."""

    def __init__(self) -> None:
        self._step = 0  # of the last record of the last weights
        self._epoch = 0  # of the last `train`
        self._epoch_steps = 0
        self._window_steps = 0
        self._windows = 0
        self._of_epoch: set[str] = set()
        self._evaluated = ""  # the split, while the run is trained
        self._best_tested = False  # and the last checkpoint not yet

    def break_at(self, record: Mapping[str, Any]) -> str:
        """Why this record cannot be the next one; empty: it can.

        Args:
            record: valid by itself. One of an unknown split can stand anywhere.
        """
        split, step, epoch = record["split"], record["step"], record["epoch"]
        what = f"{split} of epoch {epoch} at step {step}"
        before = f"after epoch {self._epoch} and step {self._step}"
        if self._best_tested and (split != "test" or "checkpoint" in record):
            return f"{what}, where the test of the last checkpoint is missing"
        if split == "train":
            follows = self._takes_train(step, epoch)
        elif split == "train_steps":
            follows = self._takes_window(step, epoch)
        elif split == "test" and "checkpoint" in record:
            follows = self._takes_best(step, epoch)
        elif split in ("validation", "test", "sharpness"):
            follows = self._takes_measured(split, step, epoch)
        else:
            return ""
        return "" if follows else f"{what}, {before}"

    def _takes_train(self, step: int, epoch: int) -> bool:
        self._epoch_steps = self._epoch_steps or step
        windows = step // self._window_steps if self._window_steps else 0
        follows = (
            epoch == self._epoch + 1
            and step == epoch * self._epoch_steps > 0
            and step >= self._step
            and windows == self._windows
        )
        self._step, self._epoch, self._of_epoch = step, epoch, set()
        return follows

    def _takes_window(self, step: int, epoch: int) -> bool:
        self._window_steps = self._window_steps or step
        self._windows += 1
        complete = (step // self._epoch_steps,) if self._epoch_steps else (0, 1)
        follows = step == self._windows * self._window_steps > self._step and epoch in complete
        self._step = step
        return follows

    def _takes_best(self, step: int, epoch: int) -> bool:
        self._best_tested = True
        return (
            self._evaluated == "validation"
            and "test" not in self._of_epoch
            and epoch <= self._epoch
            and step == epoch * self._epoch_steps
        )

    def _takes_measured(self, split: str, step: int, epoch: int) -> bool:
        follows = (
            (step, epoch) == (self._step, self._epoch)
            and step == epoch * self._epoch_steps
            and split not in self._of_epoch
        )
        if split != "sharpness" and not self._best_tested:
            self._evaluated = self._evaluated or split
            follows &= split == self._evaluated
        self._of_epoch.add(split)
        self._best_tested = False
        return follows
