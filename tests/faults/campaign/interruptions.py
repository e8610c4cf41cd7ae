"""A run that is interrupted at random moments until it ends by itself: nothing may be lost."""

import contextlib
import signal
import time

from tests.faults.campaign.figures import Failure
from tests.faults.campaign.starts import SECONDS_TO_END, Start
from vasso_jax.runs import RunFolder

PART = "interruptions"
# How often each is drawn.
KINDS = {
    "SIGKILL": 6,
    "SIGTERM": 2,
    "SIGINT": 2,
    "SIGTERM and SIGINT": 1,
    "two processes, SIGKILL for one": 1,
}
# How a process may end after a signal. 0: it was at its end; negative: it had no handler yet.
STATUSES = {
    "SIGKILL": {0, -signal.SIGKILL},
    "SIGTERM": {0, -signal.SIGTERM, 128 + signal.SIGTERM},
    "SIGINT": {0, 128 + signal.SIGINT},
    "SIGTERM and SIGINT": {0, -signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGINT},
    "two processes, SIGKILL for one": {0, 2, -signal.SIGKILL},
}
_EVERY_FRESH = 4


def trial(random, references, scratch, figures, *, most=1000):
    """Interrupts one run until it ends by itself, and compares it to an unbroken one.

    Args:
        random: of this trial.
        references: what to compare with.
        scratch: an empty folder.
        figures: is told of each interruption.
        most: after so many, it is left alone.
    """
    reference = references.draw(random)
    workdir = scratch / "run"
    offset = random.randrange(_EVERY_FRESH)
    for number in range(most):
        (kind,) = random.choices([*KINDS], [*KINDS.values()])
        fresh = number % _EVERY_FRESH == offset
        if _interrupted(random, reference, workdir, scratch, figures, kind, fresh):
            break
    else:
        end = Start(reference.arguments(workdir), scratch).end()
        if end.status:
            raise Failure(f"left alone: status {end.status}; it said:\n{end.out[-500:]}{end.err}")
    reference.check_same(workdir)
    figures.count("whole runs", "compared with an unbroken one", "the same bits and records")


def _interrupted(random, reference, workdir, scratch, figures, kind, fresh):
    """One start of the run, and one interruption; returns whether the run has finished."""
    with contextlib.ExitStack() as held:
        starts = [
            held.enter_context(Start(reference.arguments(workdir), scratch, fresh=fresh))
            for _ in range(2 if kind.startswith("two") else 1)
        ]
        _wait_for_a_moment(random, reference, RunFolder(workdir), starts[0], kind)
        random.shuffle(starts)
        was_running = starts[0].is_running()
        for number in _signals(kind):
            starts[0].send(number)
            time.sleep(random.choice([0, 0.01, 0.1]))
        ends = [starts[0].end(SECONDS_TO_END), *(each.end() for each in starts[1:])]
    for end in ends:
        if end.status not in STATUSES[kind] or "Traceback" in end.out + end.err:
            raise Failure(f"{kind}: status {end.status}; it said:\n{end.out[-500:]}{end.err}")
        if end.status == 2 and not (end.is_refusal and "is in use by" in end.err):
            raise Failure(f"{kind}: {end.err}")
    finished = any(end.status == 0 for end in ends)
    if was_running:
        how = "fresh" if fresh else "warm"
        figures.count(PART, f"{kind}, {how}", "finished" if finished else "ended")
        if len(ends) == 1:
            figures.time(PART, f"end after {kind}", ends[0].seconds)
    return finished


def _signals(kind):
    if kind.startswith("two"):
        return [signal.SIGKILL]
    return [signal.Signals[name] for name in kind.split(" and ")]


def _wait_for_a_moment(random, reference, folder, start, kind):
    """Waits for some time, or for the next checkpoint and then a little."""
    longest = (3 if start.is_fresh else 1.3) * reference.seconds
    until = time.monotonic() + random.uniform(0, longest)
    seen, for_checkpoint = folder.saved_steps(), random.random() < 0.6
    # Python ends with a trace before the program has begun.
    begun = "SIGKILL" in kind
    while start.is_running():
        begun = begun or _holds_lock(folder, start)
        if begun and for_checkpoint and folder.saved_steps() != seen:
            time.sleep(random.uniform(0, 0.15 * reference.seconds))
            return
        if begun and not for_checkpoint and time.monotonic() > until:
            return
        time.sleep(0.002)


def _holds_lock(folder, start):
    return folder.lock_path.exists() and f": {start.pid}," in folder.lock_path.read_text()
