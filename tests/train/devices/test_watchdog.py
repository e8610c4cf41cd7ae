"""A process in which nothing moves on ends, and says where it stands."""

import signal
import subprocess
import sys
import time

import pytest

from tests import runs

START = """
import time
from vasso_jax.train.devices.watchdog import Watchdog

def wait_for_another_host():
    time.sleep(30)

with Watchdog({timeout}) as watchdog:
    watchdog.moved_on("step 12")
    print("started", flush=True)
    {body}
print("ended", flush=True)
"""


def start(timeout, body):
    return subprocess.Popen(
        [sys.executable, "-c", START.format(timeout=timeout, body=body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_hangs_is_ended_with_the_stacks_and_one_message():
    process = start(1, "wait_for_another_host()")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert out == "started\n"
    assert "in wait_for_another_host" in err
    assert err.splitlines()[-1].startswith("error: step 12 has not ended within stall_timeout=1 ")


@pytest.mark.parametrize(
    ("timeout", "body"),
    [
        (1, "[(time.sleep(0.25), watchdog.moved_on('step')) for _ in range(10)]"),
        (0, "time.sleep(2)"),
    ],
)
def test_what_moves_on_or_has_no_limit_is_left_alone(timeout, body):
    process = start(timeout, body)
    assert process.communicate(timeout=60) == ("started\nended\n", "")


def test_time_in_which_the_process_is_stopped_does_not_count():
    process = start(1.5, "time.sleep(0.5)")
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=60) == ("ended\n", "")
    assert process.returncode == 0


@pytest.mark.weekly
def test_a_run_whose_step_hangs_ends_and_goes_on_where_it_was_saved(tmp_path):
    workdir, file = tmp_path / "run", tmp_path / "there"
    # It takes longer than the limit, and no step of it does.
    settings = (
        *("model.name=tests.train.networks:Waiting", "epochs=20"),
        *("checkpoint_every_steps=3", "stall_timeout=5"),
    )
    options = {"env": {"WAIT_WHILE": str(file)}}
    process = runs.start(workdir, *settings, **options)
    while max(runs.steps_saved(workdir), default=0) < 30:
        assert process.poll() is None
        time.sleep(0.01)
    file.touch()
    status, _, err = runs.finish(process, timeout=60)
    assert status == 75
    assert "in _wait" in err
    assert "has not ended within stall_timeout=5 seconds" in err
    file.unlink()
    result, out = runs.run(workdir, *settings, **options)
    assert "resuming at step" in out
    assert result["epochs"] == 20
