"""Where the time of a run goes, over all its starts, and what share of it made progress.

The time of a start is from when it locks the run folder; that between two starts is not known. At
each moment the first process does one of

    training     from the second step of a start on: the steps and what waits for them
    evaluating   the network, and measuring its sharpness
    saving       records and checkpoints, as far as training waits for them
    starting     until the first step has been made: reading the data, restoring, compiling

A start that goes on from a checkpoint also goes on with the times of that. What earlier starts are
known to have taken beyond these was lost. What is known is what their records say, or their last
sign of life, which the lock keeps. So what is lost is no less than is said here.

The goodput is the share of training in all that: the runtime goodput of arXiv 2502.06982.
"""

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from vasso_jax.runs import OF_TIME, Record

_SECONDS_BETWEEN_SIGNS = 10.0
_FIELDS = {name.removesuffix("_seconds"): name for name in OF_TIME if name.endswith("_seconds")}


class _Lock(Protocol):
    seconds: float

    def sign(self, seconds: float) -> None: ...


class Account:
    """Cumulative seconds by activity; the first one is `starting`."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(_FIELDS, 0.0)
        self._doing = "starting"
        self._since = time.perf_counter()
        self._lock: _Lock | None = None
        self._signed = -math.inf
        self._began = self._since

    def sign_at(self, lock: _Lock) -> None:
        """From now on signs of life are left at the lock of the run, which has those before."""
        self._lock = lock

    def resume(self, kept: Sequence[Record], dropped: Iterable[Record]) -> None:
        """Goes on with the times of a run; to be called once, before any sign of life.

        Args:
            kept: what the checkpoint says, and the records until its step.
            dropped: the records of later steps.
        """
        earlier = max(kept, key=_total, default={})
        known = max(map(_total, (earlier, *dropped)))
        if self._lock:
            known = max(known, self._lock.seconds)
        for doing, field in _FIELDS.items():
            if doing != "lost":
                self._seconds[doing] += _number(earlier, field)
        self._seconds["lost"] = known - (_total(earlier) - _number(earlier, _FIELDS["lost"]))
        before = max((_number(record, "seconds") for record in kept), default=0.0)
        self._began = time.perf_counter() - before

    def seconds_of_run(self) -> float:
        """Seconds since the run began, without what was lost and what came before `resume`."""
        return round(time.perf_counter() - self._began, 3)

    def begin(self, doing: str) -> None:
        """From now on the time is that of another activity."""
        now = time.perf_counter()
        self._seconds[self._doing] += now - self._since
        self._doing, self._since = doing, now

    @contextlib.contextmanager
    def doing(self, doing: str) -> Iterator[None]:
        """Within this context the time is that of another activity."""
        before = self._doing
        self.begin(doing)
        try:
            yield
        finally:
            self.begin(before)

    def alive(self) -> None:
        """Leaves a sign of life, if the last one was ten seconds ago."""
        if self._lock and time.perf_counter() - self._signed >= _SECONDS_BETWEEN_SIGNS:
            self.begin(self._doing)
            self._signed = self._since
            self._lock.sign(sum(self._seconds.values()))

    def to_save(self) -> dict[str, float]:
        """What a checkpoint says, for `resume`."""
        return {**self.fields(), "seconds": self.seconds_of_run()}

    def fields(self) -> dict[str, float]:
        """The fields of a record (`runs.OF_TIME`) as of now."""
        self.begin(self._doing)
        seconds = {field: round(self._seconds[doing], 3) for doing, field in _FIELDS.items()}
        goodput = self._seconds["training"] / (sum(self._seconds.values()) or 1.0)
        return {**seconds, "goodput": round(goodput, 4)}


def _total(record: Mapping[str, Any]) -> float:
    return sum(_number(record, field) for field in _FIELDS.values())


def _number(record: Mapping[str, Any], field: str) -> float:
    value = record.get(field)
    # Records that are dropped can hold anything.
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e9 else 0.0
