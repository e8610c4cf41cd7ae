"""The lock of a run: one process at a time, freed by its end, however that comes."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from tests import runs
from vasso_jax.runs import RunFolder

# Takes the lock, says so, and holds it until its standard input ends.
HOLDER = """
import sys
from vasso_jax.runs import RunFolder

try:
    with RunFolder(sys.argv[1]).lock(print):
        print("held", flush=True)
        sys.stdin.read()
except ValueError as error:
    print(error, flush=True)
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        cwd=runs.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def holding(folder):
    """A process that holds the lock, killed at the end."""
    with start(folder) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def never(message):
    pytest.fail(message)


def test_the_holder_is_named_and_its_death_frees_the_lock(tmp_path):
    folder = RunFolder(tmp_path / "new" / "run")
    with holding(folder.path) as process:
        held_by = rf"process {process.pid} on {socket.gethostname()} since 2\d\d\d-"
        for _ in range(2):
            with pytest.raises(ValueError, match=held_by), folder.lock(never):
                pass
        process.kill()
        process.wait()
        with folder.lock(never):
            assert json.loads(folder.lock_path.read_text())["process"] == os.getpid()
    with folder.lock(never):  # released at the end of the block, too
        pass


def test_of_many_started_at_once_one_wins(tmp_path):
    processes = [start(tmp_path / "run") for _ in range(8)]
    said = [process.stdout.readline() for process in processes]
    for process in processes:
        process.communicate()
    assert said.count("held\n") == 1
    assert sum("is in use by " in line for line in said) == 7


def test_a_second_run_in_the_same_process_is_refused(tmp_path):
    folder, refusals = RunFolder(tmp_path), []

    def other_thread():
        with pytest.raises(ValueError, match=f"process {os.getpid()} ") as refused:
            folder.lock(never).__enter__()
        refusals.append(refused)

    with folder.lock(never):
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
    assert refusals


@pytest.mark.slow
def test_a_command_ends_at_once_and_touches_nothing(tmp_path):
    with holding(tmp_path) as process:
        status, out, err = runs.finish(runs.start(tmp_path))
        assert (status, out) == (2, "")
        in_use = f"error: the run folder {tmp_path} is in use by process {process.pid} on "
        assert err.startswith(in_use)
        assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


def test_a_file_that_was_removed_is_no_lock(tmp_path, monkeypatch):
    folder, flock = RunFolder(tmp_path / "run"), fcntl.flock

    def after_a_refused_run(file, operation):
        monkeypatch.setattr(fcntl, "flock", flock)
        folder.checkpoints_path.mkdir()
        folder.remove_if_empty()
        assert not folder.path.exists()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", after_a_refused_run)
    with folder.lock(never), pytest.raises(ValueError, match="in use"), folder.lock(never):
        pass


def test_only_an_empty_folder_is_removed(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.lock(never):
        folder.checkpoints_path.mkdir()
        folder.metrics_path.touch()
        folder.remove_if_empty()
        assert folder.lock_path.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_in_the_file_system_a_warning_is_all(tmp_path, monkeypatch, number):
    def refuse(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    warnings = []
    with RunFolder(tmp_path).lock(warnings.append):
        pass
    (warning,) = warnings
    assert f"{tmp_path} has no locks ({os.strerror(number)})" in warning


def test_another_error_is_not_taken_for_that(tmp_path, monkeypatch):
    def fail(file, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with (
        pytest.raises(OSError, match=r"run\.lock cannot be locked \(Input/output error\)"),
        RunFolder(tmp_path).lock(never),
    ):
        pass
