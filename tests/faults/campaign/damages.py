"""An interrupted run whose folder is damaged: it heals to the same bits, or is refused."""

import os
import shutil
import signal
import time

from tests.faults.campaign.figures import Failure
from tests.faults.campaign.starts import Start
from vasso_jax.runs import RunFolder

PART = "damages"
_FRESH_SHARE = 0.1
_USES = 12  # of one interrupted run
_LOCK = "run.lock"


class Interrupted:
    """Folders of interrupted runs with several checkpoints, to be copied and damaged."""

    def __init__(self, references, scratch):
        self._references = references
        self._scratch = scratch
        self._kept = {}

    def copy(self, random, to):
        """Copies a random one; returns the reference of its run."""
        reference = self._references.draw(random)
        uses, folder = self._kept.get(reference.name, (_USES, None))
        if uses == _USES:
            uses, folder = 0, self._make(reference)
        self._kept[reference.name] = uses + 1, folder
        shutil.copytree(folder, to, symlinks=True)
        return reference

    def _make(self, reference):
        """A run that is killed in its second epoch."""
        workdir = self._scratch / "interrupted" / reference.name.replace(" ", "_")
        folder = RunFolder(workdir)
        for _ in range(50):
            shutil.rmtree(workdir, ignore_errors=True)
            with Start(reference.arguments(workdir), self._scratch) as start:
                while start.is_running() and not _is_ready(folder):
                    time.sleep(0.002)
                start.send(signal.SIGKILL)
                if start.end().status == -signal.SIGKILL:
                    return workdir
        raise Failure(f"{reference.name}: no run could be killed in its second epoch")


def _is_ready(folder):
    steps = folder.saved_steps()
    return (
        len(steps) >= 2
        and folder.metrics_path.exists()
        and bool(folder.metrics_path.stat().st_size)
    )


def trial(random, interrupted, scratch, figures):
    """Damages one folder in one to three places, and starts the run again.

    Args:
        random: of this trial.
        interrupted: what to copy.
        scratch: an empty folder.
        figures: is told of the outcome.
    """
    workdir = scratch / "run"
    reference = interrupted.copy(random, workdir)
    folder = RunFolder(workdir)
    touched, kinds = set(), []
    for _ in range(random.choice([1, 1, 2, 3])):
        place = random.choice([workdir, folder.checkpoints_path])
        if place.exists():
            kind = random.choice([*KINDS])
            touched |= KINDS[kind](random, place)
            kinds.append(kind)
    must_heal = _must_heal(folder, touched)
    fresh = random.random() < _FRESH_SHARE
    end = Start(reference.arguments(workdir), scratch, fresh=fresh).end()
    said = f"{kinds} of {sorted(str(path.relative_to(scratch)) for path in touched)}: {end.status}"
    said = f"{reference.name}: {said}; it said:\n{end.out[-1500:]}{end.err}"
    outcome = _outcome(reference, workdir, end, must_heal, said)
    where = "checkpoints" if _only_in(folder.checkpoints_path, touched) else "anywhere"
    for kind in kinds:
        figures.count(PART, f"{kind} ({where})", outcome)
    figures.time(PART, outcome, end.seconds)


def _outcome(reference, workdir, end, must_heal, said):
    if "Traceback" in end.out + end.err:
        raise Failure(f"a traceback after {said}")
    if end.is_refusal:
        if must_heal:
            raise Failure(f"refused, though a checkpoint is whole, after {said}")
        return "refused"
    if end.status:
        raise Failure(f"a strange end after {said}")
    try:
        healed = reference.check_same(workdir, healed=True)
    except (Failure, ValueError, OSError) as error:
        raise Failure(f"another result ({error}) after {said}") from error
    return "put aside, the same bits" if healed else "the same bits"


def _only_in(place, touched):
    return all(path.is_relative_to(place) for path in touched)


def _must_heal(folder, touched):
    """Whether only checkpoints and the lock were damaged, and a checkpoint is whole."""
    others = [path for path in touched if path != folder.path / _LOCK]
    if not _only_in(folder.checkpoints_path, others):
        return False
    # An older one may have been half deleted when the run was killed.
    newest = sorted(folder.saved_steps())[-folder.settings()["keep_last"] :]
    return any(
        not any(_related(path, folder.checkpoints_path / str(step)) for path in others)
        for step in newest
    )


def _related(one, other):
    return one.is_relative_to(other) or other.is_relative_to(one)


def _files(place):
    return sorted(path for path in place.rglob("*") if path.is_file())


def _folders(place):
    return sorted(path for path in place.rglob("*") if path.is_dir())


def _rewrite(change):
    def damage(random, place):
        files = [path for path in _files(place) if path.stat().st_size]
        if not files:
            return set()
        path = random.choice(files)
        content = bytearray(path.read_bytes())
        change(random, content)
        path.write_bytes(content)
        return {path}

    return damage


def _flip(random, content):
    for _ in range(random.choice([1, 1, 8])):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)


def _cut(random, content):
    del content[random.randrange(len(content)) :]


def _empty(random, content):
    content.clear()


def _append(random, content):
    content.extend(random.randbytes(random.choice([1, 10, 1000])))


def _delete(listed, remove):
    def damage(random, place):
        found = listed(place)
        if not found:
            return set()
        path = random.choice(found)
        remove(path)
        return {path}

    return damage


def _swap(listed):
    def damage(random, place):
        found = listed(place)
        pairs = [(a, b) for a in found for b in found if a < b and not _related(a, b)]
        if not pairs:
            return set()
        one, other = random.choice(pairs)
        between = place / "swapped"
        for source, target in ((one, between), (other, one), (between, other)):
            source.rename(target)
        return {one, other}

    return damage


KINDS = {
    "bits flipped": _rewrite(_flip),
    "a file cut": _rewrite(_cut),
    "a file emptied": _rewrite(_empty),
    "garbage appended": _rewrite(_append),
    "a file deleted": _delete(_files, os.unlink),
    "a folder deleted": _delete(_folders, shutil.rmtree),
    "two files swapped": _swap(_files),
    "two folders swapped": _swap(_folders),
}
