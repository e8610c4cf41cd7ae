"""Damaged checkpoints are put aside, and the next one that is whole is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.checkpoints.test_storage import abstract, save_all, steps_on_disk
from vasso_jax.train.checkpoints.checkpoint import Checkpoints
from vasso_jax.train.checkpoints.healing import restore_first_whole
from vasso_jax.train.checkpoints.weights import read_variables, write_run
from vasso_jax.train.errors import DamagedCheckpoint, UsageError

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LIKE = abstract({"w": jnp.zeros(3)})


def flip(checkpoint):
    """Flips a bit of the array; a small one lies in its index, which is checked by orbax."""
    for path in checkpoint.joinpath("state").rglob("d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def heal(folder, steps):
    checkpoints = Checkpoints(folder / "checkpoints", keep_last=3)
    try:
        return restore_first_whole(checkpoints, steps, LIKE)
    finally:
        checkpoints.close()


def test_the_newest_whole_one_is_taken(tmp_path):
    save_all(tmp_path, [None] * 3, keep_last=3)
    flip(tmp_path / "checkpoints/3")
    (tmp_path / "checkpoints/2/about/metadata").unlink()
    restored = heal(tmp_path, [3, 2, 1])
    assert (restored.step, restored.put_aside) == (1, ["3.damaged", "2.damaged"])
    np.testing.assert_array_equal(restored.state["w"], np.full(3, 1, np.float32))
    assert steps_on_disk(tmp_path) == [1]
    assert restored.warning().count("damaged (") == 2
    assert "that of step 1 is used" in restored.warning()


def test_what_is_not_needed_is_left_alone(tmp_path):
    save_all(tmp_path, [None] * 3, keep_last=3)
    flip(tmp_path / "checkpoints/1")
    restored = heal(tmp_path, [3, 2, 1])
    assert (restored.step, restored.damaged) == (3, {})
    assert steps_on_disk(tmp_path) == [1, 2, 3]


def test_one_under_the_name_of_another_is_damaged(tmp_path):
    save_all(tmp_path, [None] * 3, keep_last=3)
    (tmp_path / "checkpoints/3").rename(tmp_path / "checkpoints/between")
    (tmp_path / "checkpoints/2").rename(tmp_path / "checkpoints/3")
    (tmp_path / "checkpoints/between").rename(tmp_path / "checkpoints/2")
    restored = heal(tmp_path, [3, 2, 1])
    assert (restored.step, restored.put_aside) == (1, ["3.damaged", "2.damaged"])
    reasons = [*restored.damaged.values()]
    assert reasons == ["ValueError: it is that of step 2", "ValueError: it is that of step 3"]


def test_if_none_is_whole_all_stay(tmp_path):
    save_all(tmp_path, [None] * 2, keep_last=2)
    for step in (1, 2):
        flip(tmp_path / f"checkpoints/{step}")
    with pytest.raises(UsageError, match=r"no checkpoint in .* is whole: bring .* 2 \(.*; 1 \("):
        heal(tmp_path, [2, 1])
    assert steps_on_disk(tmp_path) == [1, 2]


def test_what_is_not_damage_ends_the_search(tmp_path, monkeypatch):
    save_all(tmp_path, [None] * 2, keep_last=2)
    restore = Checkpoints.restore

    def without_memory(self, step, abstract_state):
        if step == 2:
            raise MemoryError
        return restore(self, step, abstract_state)

    monkeypatch.setattr(Checkpoints, "restore", without_memory)
    with pytest.raises(MemoryError):
        heal(tmp_path, [2, 1])
    assert steps_on_disk(tmp_path) == [1, 2]


def test_processes_that_see_other_checkpoints_stop(tmp_path, monkeypatch):
    save_all(tmp_path, [None] * 2, keep_last=2)
    gather = "vasso_jax.train.checkpoints.healing.processes.gather"
    monkeypatch.setattr(gather, lambda number: [number, number + 1])
    with pytest.raises(UsageError, match="the hosts see different checkpoints"):
        heal(tmp_path, [2, 1])


@pytest.mark.parametrize(
    ("theirs", "ours", "error", "message"),
    [
        (1, False, DamagedCheckpoint, "another process could not read it"),
        (2, False, UsageError, "another process could not read .*: see its message"),
        (2, True, UsageError, "another process could not read .*: see its message"),
        (0, True, DamagedCheckpoint, "damaged"),
    ],
)
def test_all_processes_give_a_checkpoint_up_together(
    tmp_path, monkeypatch, theirs, ours, error, message
):
    save_all(tmp_path, [None])
    if ours:
        flip(tmp_path / "checkpoints/1")
    gather = "vasso_jax.train.checkpoints.reading.processes.gather"
    monkeypatch.setattr(gather, lambda grade: [grade, theirs])
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(UsageError, match=message) as found:
        checkpoints.restore(1, LIKE)
    checkpoints.close()
    assert type(found.value) is error


def test_weights_of_a_damaged_checkpoint_name_a_whole_one(tmp_path):
    variables = {"params": {"head": {"kernel": jnp.ones((2, 3))}}}
    like = abstract(variables)
    write_run(str(tmp_path), variables)
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep_last=3)
    checkpoints.save(5, variables)
    checkpoints.save(7, variables)
    checkpoints.close()
    newest = tmp_path / "checkpoints/7"
    jax.tree.map(np.testing.assert_array_equal, read_variables(newest, like), variables)
    flip(newest)
    flip(tmp_path / "checkpoints/5")
    with pytest.raises(UsageError, match=f"that of step 0 is whole, take {tmp_path}@0"):
        read_variables(newest, like)
    flip(tmp_path / "checkpoints/0")
    with pytest.raises(UsageError, match="no other one of this run is whole"):
        read_variables(newest, like)
    assert steps_on_disk(tmp_path) == [0, 5, 7]


def test_weights_are_checked_in_the_dtype_in_which_they_were_saved(tmp_path):
    variables = {"params": {"head": {"kernel": jnp.full((2, 3), 1 / 3)}}}
    write_run(str(tmp_path), variables)
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16, sharding=x.sharding), variables
    )
    kernel = read_variables(tmp_path / "checkpoints/0", like)["params"]["head"]["kernel"]
    assert kernel.dtype == jnp.bfloat16
    np.testing.assert_array_equal(kernel, jnp.full((2, 3), 1 / 3, jnp.bfloat16))
