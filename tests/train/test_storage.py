"""Checkpoints, records and the run folder: what is kept, what is dropped, what is refused."""

import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.train import workdir
from vasso_jax.train.checkpoint import Checkpoints
from vasso_jax.train.errors import UsageError
from vasso_jax.train.preemption import StopRequests
from vasso_jax.train.records import RecordFile, of_test


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def save_all(folder, accuracies):
    """One checkpoint a step, with the test accuracy given (None: within an epoch)."""
    checkpoints = Checkpoints(folder)
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
    reopened = Checkpoints(tmp_path)
    assert reopened.latest_step() == kept[-1]
    reopened.save(9, {"w": jnp.zeros(3)}, 0.3)
    reopened.wait()
    reopened.close()
    assert steps_on_disk(tmp_path) == sorted({kept[0] if len(kept) > 1 else kept[-1], 9})


def test_restoring_gives_back_the_bits(tmp_path):
    state = {"w": jax.random.normal(jax.random.key(0), (5,)), "n": jnp.int32(7)}
    checkpoints = Checkpoints(tmp_path)
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
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(UsageError, match=f"{folder} cannot be read.*start in a new workdir"):
        checkpoints.restore(1, abstract(template))
    checkpoints.close()


def test_a_damaged_checkpoint_names_the_one_to_go_on_from(tmp_path):
    save_all(tmp_path, [0.9, 0.5])
    for path in (tmp_path / "checkpoints/2/state").rglob("*"):
        if path.is_file():
            path.unlink()
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(UsageError, match="delete that folder to go on from step 1, or"):
        checkpoints.restore(2, abstract({"w": jnp.zeros(3)}))
    checkpoints.close()


def test_damaged_metrics_of_a_checkpoint_are_named(tmp_path):
    save_all(tmp_path, [0.5])
    (tmp_path / "checkpoints/1/metrics/metrics").write_text("{")
    with pytest.raises(UsageError, match=f"checkpoints in {tmp_path}/checkpoints cannot be listed"):
        Checkpoints(tmp_path)


def record(step, split="train", **more):
    return {"step": step, "epoch": step, "split": split, "loss": 1.0, "top1": 0.5, **more}


def test_records_beyond_the_checkpoint_and_a_torn_line_are_dropped(tmp_path):
    file = RecordFile(tmp_path)
    for step in (1, 2, 3):
        file.append(record(step))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 4, "ep')
    again = RecordFile(tmp_path)
    again.keep_until(2)
    assert [r["step"] for r in again.records] == [1, 2]
    again.append(record(3, "test"))
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
    assert of_test(again.records) == [record(3, "test")]


@pytest.mark.parametrize("line", ['{"st', "null", '{"step": 2}', "\udcff"])
def test_a_damaged_line_amid_the_records_is_named(tmp_path, line):
    good = json.dumps(record(1))
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(f"{good}\n{line}\n{good}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"line 2 of .*metrics\.jsonl is damaged"):
        RecordFile(tmp_path)


def test_a_record_that_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        RecordFile(tmp_path).append(record(1, loss=float("nan")))
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_is_named(tmp_path):
    file = RecordFile(tmp_path)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        file.append(record(1))


def test_other_processes_keep_records_in_memory_only(tmp_path):
    file = RecordFile(tmp_path, writable=False)
    file.append(record(1))
    file.keep_until(1)
    assert file.records == [record(1)]
    assert not list(tmp_path.iterdir())


CONFIG = {"lr": 0.1, "milestones": (1, 2), "data_dir": "a"}


def begin(folder):
    workdir.check(folder, CONFIG)
    workdir.write_facts(folder, CONFIG, {})
    (folder / "metrics.jsonl").write_text("{}")


def test_the_folder_takes_the_same_run_only(tmp_path):
    begin(tmp_path)
    workdir.check(tmp_path, CONFIG | {"data_dir": "b"})
    with pytest.raises(ValueError, match=r"other settings \(lr=0.1 there, 0.2 here\)"):
        workdir.check(tmp_path, CONFIG | {"lr": 0.2})
    # A field that only one version of the code knows is no difference.
    workdir.check(tmp_path, CONFIG | {"new": 1})
    workdir.check(tmp_path, {"lr": 0.1})


def test_a_folder_where_nothing_has_begun_takes_any_run(tmp_path):
    workdir.check(tmp_path, CONFIG)
    workdir.write_facts(tmp_path, CONFIG, {})
    # As a run leaves it that diverged, or was killed, before anything was saved.
    (tmp_path / "metrics.jsonl").touch()
    (tmp_path / "checkpoints/3.orbax-checkpoint-tmp").mkdir()
    workdir.check(tmp_path, CONFIG | {"lr": 0.2})


@pytest.mark.parametrize(("dataset", "may_move"), [("cifar10", True), ("folder", False)])
def test_copies_of_named_sets_may_move_and_folders_may_not(tmp_path, dataset, may_move):
    settings = {"dataset": dataset, "data_dir": "/a"}
    workdir.check(tmp_path, settings)
    workdir.write_facts(tmp_path, settings, {})
    (tmp_path / "metrics.jsonl").write_text("{}")
    moved = settings | {"data_dir": "/b"}
    if may_move:
        workdir.check(tmp_path, moved)
    else:
        with pytest.raises(ValueError, match="data_dir='/a' there, '/b' here"):
            workdir.check(tmp_path, moved)


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    workdir.check(tmp_path, CONFIG)
    workdir.write_facts(tmp_path, CONFIG, {"train_images": 5, "class_names": ("a", "b")})
    # Nothing has begun yet.
    workdir.write_facts(tmp_path, CONFIG, {"train_images": 6, "class_names": ("a", "b")})
    (tmp_path / "metrics.jsonl").write_text("{}")
    workdir.write_facts(tmp_path, CONFIG, {"train_images": 6, "class_names": ("a", "b")})
    with pytest.raises(ValueError, match="train_images=6 there, 7 here"):
        workdir.write_facts(tmp_path, CONFIG, {"train_images": 7, "class_names": ("a", "b")})


def test_a_damaged_config_is_named(tmp_path):
    begin(tmp_path)
    for text in ("{", "[1]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"config\.json is damaged"):
            workdir.check(tmp_path, CONFIG)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    workdir.write_text(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match=r"config\.json cannot be written \(No space left\)"):
        workdir.write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    assert path.read_text() == "old"


def test_a_signal_is_noted_and_a_second_one_has_its_usual_effect():
    usual = signal.getsignal(signal.SIGTERM)
    with StopRequests() as stop:
        assert not stop.arrived(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.arrived(2)
        assert stop.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == usual
    assert signal.getsignal(signal.SIGTERM) == usual
