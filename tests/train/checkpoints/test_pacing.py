"""Which states of short epochs become checkpoints, and when."""

from types import SimpleNamespace

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.train.checkpoints import pacing
from vasso_jax.train.checkpoints.checkpoint import Checkpoints
from vasso_jax.train.errors import UsageError


class Written:
    """What was passed on, and what `Checkpoints` would keep of it."""

    def __init__(self):
        self.items = []

    def latest_step(self):
        return self.items[-1][0] if self.items else None

    def save(self, step, state, test_top1):
        assert not self.items or step > self.items[-1][0]
        self.items.append((step, state, test_top1))

    def wait(self):
        pass

    def kept(self):
        ranked = [item for item in self.items if item[2] is not None]
        best = max(ranked, key=lambda item: (item[2], item[0]), default=self.items[-1])
        return {item[0] for item in (best, self.items[-1])}


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(pacing.time, "monotonic", lambda: now.seconds)
    return now


# Seconds before each save, the accuracy of the state, and whether it must be written at once.
SAVES = st.lists(
    st.tuples(
        st.sampled_from([0.1, 3.0, 11.0]), st.sampled_from([None, 0.1, 0.5, 0.9]), st.booleans()
    ),
    min_size=1,
    max_size=12,
)


@hypothesis.given(saves=SAVES)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_in_the_end_the_same_is_kept_as_if_all_had_been_written(clock, saves):
    paced, everything = Written(), Written()
    checkpoints = pacing.PacedCheckpoints(paced)
    writes = []
    for step, (seconds, accuracy, at_once) in enumerate(saves, start=1):
        clock.seconds += seconds
        everything.save(step, step, accuracy)
        due = not writes or clock.seconds - writes[-1] >= 10
        checkpoints.save(step, np.int32(step), accuracy, at_once=at_once)
        assert (paced.latest_step() == step) == (at_once or due)
        if at_once or due:
            writes.append(clock.seconds)
    checkpoints.wait()
    assert paced.latest_step() == len(saves)
    assert paced.kept() == everything.kept()
    assert all(item[0] == item[1] for item in paced.items)


class Unwritable(Written):
    def latest_step(self):
        return None

    def wait(self):
        raise UsageError("no space")


def test_a_disk_that_cannot_be_written_to_is_found_out_at_the_first_checkpoint(clock):
    with pytest.raises(UsageError, match="no space"):
        pacing.PacedCheckpoints(Unwritable()).save(1, None, 0.5, at_once=False)


def test_a_state_that_waits_is_a_copy_and_written_in_the_end(tmp_path, clock):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    paced = pacing.PacedCheckpoints(checkpoints)
    for step, accuracy in enumerate([0.1, 0.9, 0.5], start=1):
        clock.seconds += 1
        state = {"w": jnp.full(3, float(step))}
        paced.save(step, state, accuracy, at_once=False)
        state["w"].delete()  # as if donated to the next step
        assert len(list(tmp_path.glob("checkpoints/[1-9]*"))) <= 1
    paced.wait()
    kept = {step: checkpoints.restore(step, {"w": jnp.zeros(3)})["w"] for step in (2, 3)}
    checkpoints.close()
    assert sorted(int(path.name) for path in tmp_path.glob("checkpoints/[1-9]*")) == [2, 3]
    for step, w in kept.items():
        np.testing.assert_array_equal(w, np.full(3, step, np.float32))


def test_with_several_processes_all_is_written(monkeypatch, clock):
    monkeypatch.setattr(pacing.processes, "several", lambda: True)
    written = Written()
    checkpoints = pacing.PacedCheckpoints(written)
    for step in (1, 2, 3):
        checkpoints.save(step, None, 0.5, at_once=False)
    assert [item[0] for item in written.items] == [1, 2, 3]
