"""Which states of short epochs become checkpoints, and when."""

from functools import partial
from types import SimpleNamespace

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.train.checkpoints import pacing
from vasso_jax.train.checkpoints.about import examine
from vasso_jax.train.checkpoints.checkpoint import Checkpoints
from vasso_jax.train.errors import DamagedCheckpoint, UsageError


class Written:
    """What was passed on, and what `Checkpoints` would keep of it."""

    def __init__(self):
        self.items = []

    def latest_step(self):
        return self.items[-1][0] if self.items else None

    def save(self, step, state, arrays, others):
        assert not self.items or step > self.items[-1][0]
        self.items.append((step, state, arrays, others))

    def wait(self):
        pass

    def kept(self, accuracies):
        steps = [item[0] for item in self.items]
        ranked = [step for step in steps if accuracies[step] is not None]
        best = max(ranked, key=lambda step: (accuracies[step], step), default=steps[-1])
        return {best, steps[-1]}


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
        everything.save(step, step, {}, {})
        due = not writes or clock.seconds - writes[-1] >= 10
        said = {"arrays": {"w": step}, "others": {"records": step}}
        checkpoints.save(step, np.int32(step), top1=accuracy, at_once=at_once, **said)
        assert (paced.latest_step() == step) == (at_once or due)
        if at_once or due:
            writes.append(clock.seconds)
    checkpoints.wait()
    assert paced.latest_step() == len(saves)
    accuracies = {step: accuracy for step, (_, accuracy, _) in enumerate(saves, start=1)}
    assert paced.kept(accuracies) == everything.kept(accuracies)
    for step, state, arrays, others in paced.items:
        assert (state, arrays, others) == (step, {"w": step}, {"records": step})


class Unwritable(Written):
    def latest_step(self):
        return None

    def wait(self):
        raise UsageError("no space")


def test_a_disk_that_cannot_be_written_to_is_found_out_at_the_first_checkpoint(clock):
    with pytest.raises(UsageError, match="no space"):
        pacing.PacedCheckpoints(Unwritable()).save(1, None, {}, 0.5)


def test_a_state_that_waits_is_a_copy_and_written_in_the_end(tmp_path, clock):
    accuracies = {1: 0.1, 2: 0.9, 3: 0.5}
    by_rank = partial(sorted, key=accuracies.get, reverse=True)
    checkpoints = Checkpoints(tmp_path / "checkpoints", ranked=by_rank)
    paced = pacing.PacedCheckpoints(checkpoints)
    for step, accuracy in accuracies.items():
        clock.seconds += 1
        state = {"w": jnp.full(3, float(step))}
        paced.save(step, state, examine(state), accuracy)
        state["w"].delete()  # as if donated to the next step
        assert len(list(tmp_path.glob("checkpoints/[1-9]*"))) <= 1
    paced.wait()
    like = {"w": jax.ShapeDtypeStruct((3,), jnp.float32, sharding=jnp.zeros(3).sharding)}
    kept = {step: checkpoints.restore(step, like).tree["w"] for step in (2, 3)}
    checkpoints.close()
    assert sorted(int(path.name) for path in tmp_path.glob("checkpoints/[1-9]*")) == [2, 3]
    for step, w in kept.items():
        np.testing.assert_array_equal(w, np.full(3, step, np.float32))


def test_what_changes_while_it_waits_is_not_taken_for_the_state(tmp_path, clock):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    paced = pacing.PacedCheckpoints(checkpoints)
    state = {"w": jnp.ones(3)}
    paced.save(1, state, examine(state))
    paced.save(2, state, examine(state))
    waiting = paced._waiting[0]
    paced._waiting = [waiting._replace(state={"w": np.array([1, 1, 1.5], np.float32)})]
    paced.wait()
    like = {"w": jax.ShapeDtypeStruct((3,), jnp.float32, sharding=state["w"].sharding)}
    with pytest.raises(DamagedCheckpoint, match="w is not what was saved"):
        checkpoints.restore(2, like)
    checkpoints.close()


def test_with_several_processes_all_is_written(monkeypatch, clock):
    monkeypatch.setattr(pacing.processes, "several", lambda: True)
    written = Written()
    checkpoints = pacing.PacedCheckpoints(written)
    for step in (1, 2, 3):
        checkpoints.save(step, None, {}, 0.5)
    assert [item[0] for item in written.items] == [1, 2, 3]
