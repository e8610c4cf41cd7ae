"""Where the time of a run goes, by a clock that moves only when told to."""

import json
import pathlib
from types import SimpleNamespace

import pytest

from vasso_jax.runs import Run, RunFolder, read_run
from vasso_jax.train import goodput
from vasso_jax.train.checkpoints.about import read_about
from vasso_jax.train.goodput import Account
from vasso_jax.train.reporting.closing import closing_rows


@pytest.fixture
def clock(monkeypatch):
    """Its `now` is the time in seconds."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(goodput.time, "perf_counter", lambda: clock.now)
    return clock


@pytest.fixture
def lock():
    signs = []
    return SimpleNamespace(seconds=0.0, sign=signs.append, signs=signs)


def start(clock, lock, kept=(), dropped=()):
    """A start that takes 4 s until its first step is made."""
    account = Account()
    account.sign_at(lock)
    clock.now += 3
    account.resume(kept, dropped)
    clock.now += 1
    account.begin("training")
    return account


def seconds(training, evaluating, saving, starting, lost):
    total = training + evaluating + saving + starting + lost
    return {
        "training_seconds": training,
        "evaluating_seconds": evaluating,
        "saving_seconds": saving,
        "starting_seconds": starting,
        "lost_seconds": lost,
        "goodput": round(training / total, 4),
    }


def train_on(clock, account):
    """10 s of training, of which there are records after 6 s, and a checkpoint."""
    clock.now += 6
    with account.doing("evaluating"):
        clock.now += 2
    with account.doing("saving"):
        clock.now += 0.5
    saved = account.fields()
    clock.now += 4
    return saved


def test_each_second_is_that_of_one_activity(clock, lock):
    account = start(clock, lock)
    saved = train_on(clock, account)
    assert saved == seconds(6, 2, 0.5, 4, 0)
    assert account.fields() == seconds(10, 2, 0.5, 4, 0)
    # Those before the training began do not count here.
    assert account.seconds_of_run() == 13.5


def test_an_activity_that_fails_has_ended(clock, lock):
    account = start(clock, lock)

    def save():
        with account.doing("saving"):
            clock.now += 1
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        save()
    clock.now += 1
    assert account.fields() == seconds(1, 0, 1, 4, 0)


def test_nothing_is_lost_by_a_start_that_goes_on_where_the_last_one_ended(clock, lock):
    account = start(clock, lock)
    train_on(clock, account)
    account.alive()
    lock.seconds = lock.signs[-1]
    saved = account.fields()  # when it was told to stop
    again = start(clock, lock, [saved])
    assert again.fields() == seconds(10, 2, 0.5, 8, 0)


def test_what_is_known_to_be_beyond_the_checkpoint_was_lost(clock, lock):
    saved = train_on(clock, start(clock, lock))
    # Killed 30 s after its last sign of life, of which nobody knows.
    lock.seconds = 12.5 + 7
    account = start(clock, lock, [saved])
    assert account.fields() == seconds(6, 2, 0.5, 8, 7)
    # Killed once more, without a sign, and with nothing saved.
    again = start(clock, lock, [saved])
    assert again.fields() == seconds(6, 2, 0.5, 8, 7)
    clock.now += 5
    saved = again.fields()
    lock.seconds = sum(saved.values()) - saved["goodput"] + 3
    third = start(clock, lock, [saved])
    assert third.fields() == seconds(11, 2, 0.5, 12, 10)


def test_what_was_trained_between_the_last_record_and_the_checkpoint_counts(clock, lock):
    account = start(clock, lock)
    clock.now += 3000
    saved = account.to_save()
    again = start(clock, lock, [saved, {"seconds": 1.0}])
    clock.now += 3000
    # And one second of each start after its data was read.
    assert again.seconds_of_run() == 6002


def test_records_that_are_dropped_were_lost_too(clock, lock):
    account = start(clock, lock)
    saved = train_on(clock, account)
    later = {"split": "train", "seconds": 13.5, **account.fields()}
    damaged = {"training_seconds": "x", "saving_seconds": 1e300, "evaluating_seconds": -1}
    again = start(clock, lock, [saved, {"seconds": 9.5}], [later, damaged])
    assert again.fields() == seconds(6, 2, 0.5, 8, 4)
    assert again.seconds_of_run() == 10.5


def test_of_what_is_kept_the_latest_counts(clock, lock):
    account = start(clock, lock)
    saved = train_on(clock, account)
    tested = {"split": "test", "seconds": 13.5, **account.fields()}
    lock.seconds = 16.0
    more = start(clock, lock, [saved, tested])
    assert more.fields() == seconds(10, 2, 0.5, 8, 0)


def test_a_sign_of_life_is_left_every_ten_seconds(clock, lock):
    account = start(clock, lock)
    for _ in range(60):
        account.alive()
        clock.now += 0.5
    assert lock.signs == [4, 14, 24]


def test_without_a_lock_no_sign_is_left(clock):
    account = Account()
    account.resume([], [])
    account.alive()
    assert account.fields() == {**seconds(0, 0, 0, 1, 0), "starting_seconds": 0}


def test_the_lock_keeps_the_signs_of_all_its_holders(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.lock(pytest.fail) as lock:
        assert lock.seconds == 0
        for seconds, kept in ((9.96, 9.9), (12.34, 12.3)):
            lock.sign(seconds)
            assert json.loads(folder.lock_path.read_text())["seconds"] == kept
    for _ in range(2):  # the second time by one that left none
        with folder.lock(pytest.fail) as lock:
            assert lock.seconds == 12.3
    # By a holder who had more to say.
    folder.lock_path.write_text(json.dumps({"seconds": 5.5, "host": 500 * "x"}))
    with folder.lock(pytest.fail) as lock:
        assert lock.seconds == 5.5
        assert json.loads(folder.lock_path.read_text())["seconds"] == 5.5
    for damaged in (b"", b"[]", b'{"seconds": "1"}', b'{"seconds": NaN}', b'{"seconds": 1e99}'):
        folder.lock_path.write_bytes(damaged)
        with folder.lock(pytest.fail) as lock:
            assert lock.seconds == 0


@pytest.mark.slow
def test_a_checkpoint_knows_the_seconds_of_its_run(unbroken):
    folder = RunFolder(unbroken[0])
    steps = folder.saved_steps()
    times = [read_about(folder.checkpoints_path / str(step))["time"] for step in sorted(steps)]
    assert 0 < times[0]["seconds"] < times[-1]["seconds"]
    assert times[-1]["seconds"] >= read_run(unbroken[0]).records[-1]["seconds"]


def test_the_closing_table_says_where_the_time_went():
    test = {"step": 9, "epoch": 1, "split": "test", "top1": 0.5, "loss": 1.0, "seconds": 80.0}
    train = {"step": 9, "epoch": 1, "split": "train", "loss": 1.0, **seconds(72, 6, 2, 10, 0)}

    def row(*records):
        run = Run(pathlib.Path("run"), {"epochs": 1}, {}, records)
        return closing_rows(run).get("where it went")

    assert row(test) is None
    assert row(train, test) == (
        "80 % training, 7 % evaluating, 2 % saving, 11 % starting (of 90.0 s in all starts)"
    )
    assert row(train | seconds(72, 6, 2, 10, 10), test) == (
        "72 % training, 6 % evaluating, 2 % saving, 10 % starting, 10 % lost (of 100.0 s in all "
        "starts)"
    )
