"""Checkpoints and the signals that save one: what is kept, and what is refused."""

import errno
import os
import pathlib
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.train.checkpoints import causes
from vasso_jax.train.checkpoints.checkpoint import Checkpoints
from vasso_jax.train.devices.processes import StopRequests
from vasso_jax.train.errors import DamagedCheckpoint, UsageError

# Coroutines of orbax that were reading when a file turned out to be damaged.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def open_folder(folder, accuracies, **options):
    """The checkpoints of a run, ranked by the accuracy of each step from 1 on (None: unknown)."""

    def ranked(steps):
        known = [step for step in steps if accuracies[step - 1] is not None]
        return sorted(known, key=lambda step: (accuracies[step - 1], step), reverse=True)

    return Checkpoints(folder / "checkpoints", ranked=ranked, **options)


def save_all(folder, accuracies, **options):
    """One checkpoint per step, with the test accuracy given (None: within an epoch)."""
    checkpoints = open_folder(folder, accuracies, **options)
    for step in range(1, len(accuracies) + 1):
        checkpoints.save(step, {"w": jnp.full(3, float(step))})
    checkpoints.wait()
    checkpoints.close()


def steps_on_disk(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())


@pytest.mark.parametrize(
    ("accuracies", "keep_last", "kept"),
    [
        ([0.1, 0.9, 0.5], 1, [2, 3]),
        ([0.1, 0.2, 0.9], 1, [3]),
        ([0.1, 0.9, 0.5, None], 1, [2, 4]),
        ([0.9, 0.5, 0.1, 0.2, 0.3], 3, [1, 3, 4, 5]),
        ([None, None], 1, [2]),
    ],
)
def test_the_newest_and_the_best_are_kept(tmp_path, accuracies, keep_last, kept):
    save_all(tmp_path, accuracies, keep_last=keep_last)
    assert steps_on_disk(tmp_path) == kept
    # The best survives a restart.
    reopened = open_folder(tmp_path, [*accuracies, *[None] * (8 - len(accuracies)), 0.0])
    assert reopened.latest_step() == kept[-1]
    reopened.save(9, {"w": jnp.zeros(3)})
    reopened.wait()
    best = reopened.ranked_steps()[:1]
    reopened.close()
    assert steps_on_disk(tmp_path) == sorted({*best, 9})
    if accuracies[0] is not None:
        assert accuracies[best[0] - 1] == max(a for a in accuracies if a is not None)


def test_restoring_gives_back_the_bits_and_what_was_said(tmp_path):
    state = {"w": jax.random.normal(jax.random.key(0), (5,)), "n": jnp.int32(7)}
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(3, state, others={"settings": 5, "records": {"count": 2}})
    checkpoints.wait()
    restored, about = checkpoints.restore(3, abstract(state))
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert (about["settings"], about["records"]) == (5, {"count": 2})


def files_of(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


@pytest.mark.parametrize("part", ["state", "about"])
@pytest.mark.parametrize("damage", ["truncated", "deleted", "emptied"])
def test_a_damaged_checkpoint_is_named(tmp_path, part, damage):
    save_all(tmp_path, [0.5])
    folder = tmp_path / "checkpoints/1"
    for path in files_of(folder / part):
        if damage == "deleted":
            path.unlink()
        else:
            half = path.stat().st_size // 2 if damage == "truncated" else 0
            path.write_bytes(path.read_bytes()[:half])
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(DamagedCheckpoint, match=f"the checkpoint {folder} is damaged"):
        checkpoints.restore(1, abstract({"w": jnp.zeros(3)}))
    checkpoints.close()


def test_a_flipped_bit_anywhere_is_an_error_or_changes_nothing(tmp_path):
    state = {
        "w": jax.random.normal(jax.random.key(0), (50, 3)),
        "b": jnp.arange(7, dtype=jnp.bfloat16),
    }
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, state)
    checkpoints.wait()
    rng = np.random.default_rng(0)
    refused = 0
    for path in files_of(tmp_path / "checkpoints/1"):
        content = path.read_bytes()
        for bit in rng.integers(0, 8 * len(content), 4):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            try:
                restored = checkpoints.restore(1, abstract(state)).tree
            except DamagedCheckpoint:
                refused += 1
            else:
                jax.tree.map(np.testing.assert_array_equal, restored, state)
        path.write_bytes(content)
    checkpoints.close()
    assert refused > 10


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"w": jnp.zeros(3), "v": jnp.zeros(2)}, "v is missing there"),
        ({}, "w is only in the checkpoint"),
        ({"w": jnp.zeros(4)}, r"w is float32\[3\] there, float32\[4\] here"),
        ({"w": jnp.zeros(3, jnp.bfloat16)}, r"w is float32\[3\] there, bfloat16\[3\] here"),
    ],
)
def test_the_checkpoint_of_another_optimizer_is_not_called_damaged(tmp_path, other, difference):
    save_all(tmp_path, [0.5])
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(UsageError, match=f"another network or optimizer: {difference}") as found:
        checkpoints.restore(1, abstract(other))
    checkpoints.close()
    assert not isinstance(found.value, DamagedCheckpoint)


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    save_all(tmp_path, [0.5])
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    opened = pathlib.Path.open

    def refuse(path, *args, **kwargs):
        if path.name == "_METADATA":  # of whom root is not refused anything
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(UsageError, match=r"Permission denied.*: allow it to this user") as found:
        checkpoints.restore(1, abstract({"w": jnp.zeros(3)}))
    checkpoints.close()
    assert not isinstance(found.value, DamagedCheckpoint)


@pytest.mark.parametrize(
    ("error", "damage"),
    [
        (FileNotFoundError(errno.ENOENT, "gone"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (ValueError("CRC mismatch"), True),
        (KeyError("tree"), True),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (ValueError("Error opening file: Too many open files [os_error_code='24']"), False),
        (MemoryError(), False),
        (ModuleNotFoundError("zstandard"), False),
        (jax.errors.JaxRuntimeError("UNAVAILABLE: Connection closed by peer"), False),
    ],
)
def test_what_damage_is(error, damage):
    assert causes.is_damage(error) == damage


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free some space, then run the same"),
        (ValueError("RESOURCE_EXHAUSTED: Failed to write [os_error_code='28']"), "free some space"),
        (OSError(errno.EROFS, "Read-only file system"), "make the disk writable again"),
        (PermissionError(errno.EACCES, "Permission denied"), "allow it to this user"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory"), "bring that folder back"),
        (ValueError("surprise"), "fix that, then"),
    ],
)
def test_what_cannot_be_written_is_told_by_its_cause(tmp_path, error, remedy):
    answer = causes.unwritable(tmp_path, error)
    assert isinstance(answer, UsageError)
    assert str(answer).startswith(f"a checkpoint could not be written to {tmp_path}: {remedy}")


def test_another_process_that_ended_is_not_taken_for_a_full_disk(tmp_path, monkeypatch):
    error = jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: Barrier timed out")
    assert causes.unwritable(tmp_path, error) is error
    monkeypatch.setattr(causes.processes, "several", lambda: True)
    answer = str(causes.unwritable(tmp_path, error))
    assert "as another process of this run has ended" in answer
    assert "space" not in answer


def test_damaged_checkpoints_are_put_aside_under_names_of_their_own(tmp_path):
    save_all(tmp_path, [0.1, 0.2, 0.3], keep_last=3)
    checkpoints = open_folder(tmp_path, [0.1, 0.2, 0.3], keep_last=3)
    assert checkpoints.put_aside(3) == tmp_path / "checkpoints/3.damaged"
    assert checkpoints.steps() == [1, 2]
    checkpoints.save(3, {"w": jnp.zeros(3)})
    checkpoints.wait()
    assert checkpoints.put_aside(3) == tmp_path / "checkpoints/3.damaged2"
    checkpoints.close()
    reopened = Checkpoints(tmp_path / "checkpoints")
    assert (reopened.steps(), reopened.latest_step()) == ([1, 2], 2)
    reopened.close()
    assert steps_on_disk(tmp_path) == [1, 2]
    assert (tmp_path / "checkpoints/3.damaged/state").is_dir()


def test_no_thread_waits_for_a_disk_that_is_gone(tmp_path):
    before = {*threading.enumerate()}
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, {"w": jnp.zeros(3)})
    checkpoints.wait()
    (tmp_path / "checkpoints").rename(tmp_path / "elsewhere")
    (tmp_path / "checkpoints").touch()
    started = time.monotonic()

    def save():
        checkpoints.save(2, {"w": jnp.zeros(3)})
        checkpoints.wait()

    with pytest.raises(UsageError, match="bring that folder back"):
        save()
    checkpoints.close()
    # The end of the program waits for these.
    for thread in {*threading.enumerate()} - before:
        if not thread.daemon:
            thread.join(timeout=max(0.0, started + 5 - time.monotonic()))
            assert not thread.is_alive(), thread


def test_what_is_saved_is_durable_before_an_older_one_is_deleted(tmp_path, monkeypatch):
    synced = []
    sync = os.fsync

    def note(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep_last=2)
    for step in (1, 2, 3):
        checkpoints.save(step, {"w": jnp.zeros(3)})
        assert (str(tmp_path / f"checkpoints/{step - 1}/about/metadata") in synced) == (step > 1)
    checkpoints.wait()
    checkpoints.close()
    folder = tmp_path / "checkpoints/3"
    assert {*map(str, [folder, folder.parent, *folder.rglob("*")])} <= {*synced}
    assert steps_on_disk(tmp_path) == [2, 3]


def test_a_signal_is_noted_and_a_second_one_has_its_usual_effect():
    usual = signal.getsignal(signal.SIGTERM)
    with StopRequests() as stop:
        assert not stop.arrived(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.arrived(2)
        assert stop.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == usual
        # The other one does not end the process either while it saves.
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) == usual
