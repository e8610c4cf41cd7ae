"""Checkpoints and the signals that save one: what is kept, and what is refused."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.train.checkpoints.checkpoint import Checkpoints
from vasso_jax.train.devices.processes import StopRequests
from vasso_jax.train.errors import UsageError


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def save_all(folder, accuracies):
    """One checkpoint per step, with the test accuracy given (None: within an epoch)."""
    checkpoints = Checkpoints(folder / "checkpoints")
    for step, accuracy in enumerate(accuracies, start=1):
        checkpoints.save(step, {"w": jnp.full(3, float(step))}, accuracy)
    checkpoints.wait()
    checkpoints.close()


def steps_on_disk(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())


@pytest.mark.parametrize(
    ("accuracies", "kept"),
    [([0.1, 0.9, 0.5], [2, 3]), ([0.1, 0.2, 0.9], [3]), ([0.1, 0.9, 0.5, None], [2, 4])],
)
def test_the_latest_and_the_best_are_kept(tmp_path, accuracies, kept):
    save_all(tmp_path, accuracies)
    assert steps_on_disk(tmp_path) == kept
    # The best survives a restart.
    reopened = Checkpoints(tmp_path / "checkpoints")
    assert reopened.latest_step() == kept[-1]
    reopened.save(9, {"w": jnp.zeros(3)}, 0.3)
    reopened.wait()
    reopened.close()
    assert steps_on_disk(tmp_path) == sorted({kept[0] if len(kept) > 1 else kept[-1], 9})


def test_restoring_gives_back_the_bits(tmp_path):
    state = {"w": jax.random.normal(jax.random.key(0), (5,)), "n": jnp.int32(7)}
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(3, state, 0.5)
    checkpoints.wait()
    restored = checkpoints.restore(3, abstract(state))
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, restored, state)


@pytest.mark.parametrize("damage", ["truncated", "deleted", "other shape"])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    save_all(tmp_path, [0.5])
    folder = tmp_path / "checkpoints/1"
    template = {"w": jnp.zeros(3)}
    if damage == "other shape":
        template = {"w": jnp.zeros(4), "v": jnp.zeros(2)}
    for path in (folder / "state").rglob("*"):
        if path.is_file() and damage == "truncated":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif path.is_file() and damage == "deleted":
            path.unlink()
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(UsageError, match=f"{folder} cannot be read.*start in a new workdir"):
        checkpoints.restore(1, abstract(template))
    checkpoints.close()


def test_a_damaged_checkpoint_names_the_one_to_go_on_from(tmp_path):
    save_all(tmp_path, [0.9, 0.5])
    for path in (tmp_path / "checkpoints/2/state").rglob("*"):
        if path.is_file():
            path.unlink()
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(UsageError, match="delete that folder to resume at step 1, or"):
        checkpoints.restore(2, abstract({"w": jnp.zeros(3)}))
    checkpoints.close()


def test_damaged_metrics_of_a_checkpoint_are_named(tmp_path):
    save_all(tmp_path, [0.5])
    (tmp_path / "checkpoints/1/metrics/metrics").write_text("{")
    with pytest.raises(UsageError, match=f"checkpoints in {tmp_path}/checkpoints cannot be listed"):
        Checkpoints(tmp_path / "checkpoints")


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
