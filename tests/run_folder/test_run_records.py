"""metrics.jsonl: what is written, what is dropped after a crash, and what is refused."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.run_folder.histories import histories
from vasso_jax.runs import RecordFile, is_complete, of_best_checkpoint, of_split, out_of_patience
from vasso_jax.runs.records import parse


def record(step, split="train", **more):
    common = {"step": step, "epoch": step, "split": split, "loss": 1.0, "top1": 0.5}
    return {**common, "seconds": 1.0, **more}


def contents(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


@settings(max_examples=50)
@given(written=histories())
def test_records_are_read_as_they_were_written(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    file = RecordFile(path)
    for record in written:
        file.append(record)
    assert RecordFile(path).records == written
    # Floats come back to the bit, too.
    assert path.read_bytes() == contents(RecordFile(path).records)


@settings(max_examples=50)
@given(written=histories(), data=st.data())
def test_a_torn_file_loses_its_last_record_at_most(tmp_path_factory, written, data):
    whole = contents(written)
    last = len(contents(written[-1:]))
    lost = data.draw(st.integers(1, last), label="bytes that are lost")
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    path.write_bytes(whole[: len(whole) - lost])
    file = RecordFile(path)
    # Without its newline it is still a record.
    assert file.records == (written if lost == 1 else written[:-1])
    # What is appended does not run into the torn line.
    file.keep_until(max(r["step"] for r in written))
    file.append(*written[len(file.records) :])
    assert RecordFile(path).records == written


def test_a_file_may_be_torn_in_any_place():
    written = [record(1), record(1, "test"), record(2, name="é\n\u2028")]
    whole = contents(written)
    for length in range(len(whole) + 1):
        kept = parse(whole[:length], "", "")
        complete = whole[:length].count(b"\n")
        assert kept in (written[:complete], written[: complete + 1])


def test_records_beyond_the_checkpoint_and_a_torn_line_are_dropped(path):
    file = RecordFile(path)
    for step in (1, 2, 3):
        file.append(record(step))
    path.write_text(path.read_text() + '{"step": 4, "ep')
    again = RecordFile(path)
    again.keep_until(2)
    assert [r["step"] for r in again.records] == [1, 2]
    again.append(record(3, "test"))
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
    assert of_split(again.records, "test") == [record(3, "test")]


DAMAGED = [
    '{"step": 1, "epoch": 1, "split": "train", "x": ' + "[" * 9999 + "]" * 9999 + "}",
    *('{"st', "null", "[]", '{"step": 2}', "\udcff", "", "\0\0\0"),
    *(
        json.dumps(record(1) | {name: bad})
        for name in ("step", "epoch")
        for bad in ("1", 1.5, True, None)
    ),
    json.dumps(record(1) | {"split": 1}),
    pytest.param("[" * 100_000, id="brackets"),
    *(
        json.dumps(record(1, "test") | {name: bad})
        for name in ("top1", "loss", "seconds")
        for bad in ("high", None, True, float("nan"), float("inf"))
    ),
    *(
        json.dumps({k: v for k, v in record(1, "test").items() if k != name})
        for name in record(1, "test")
    ),
]


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_amid_the_records_is_named(path, line):
    good = json.dumps(record(1))
    path.write_bytes(f"{good}\n{line}\n{good}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(
        ValueError, match=r"line 2 of .*metrics\.jsonl is damaged: repair it, or st"
    ):
        RecordFile(path)
    # A whole last line is not torn, and no other line is.
    path.write_bytes(f"{good}\n{line}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"line 2 of .*metrics\.jsonl is damaged"):
        RecordFile(path)


def test_a_training_record_needs_no_metrics(path):
    written = {"step": 1, "epoch": 1, "split": "train"}
    path.write_bytes(contents([written]))
    assert RecordFile(path).records == [written]


def test_a_record_that_json_cannot_hold_is_refused(path):
    file = RecordFile(path)
    with pytest.raises(ValueError, match="JSON"):
        file.append(record(1, loss=float("nan")))
    assert not path.exists()
    assert file.records == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_is_named(path):
    file = RecordFile(path)
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        file.append(record(1))


def test_other_processes_keep_records_in_memory_only(path):
    file = RecordFile(path, writable=False)
    file.append(record(1))
    file.keep_until(1)
    assert file.records == [record(1)]
    assert not list(path.parent.iterdir())


class Recorder:
    def __init__(self):
        self.written, self.closed = [], False

    def write(self, step, scalars):
        self.written.append((step, scalars))

    def close(self):
        self.closed = True


def test_each_record_reaches_each_dashboard_as_scalars_of_its_split(path):
    dashboards = [Recorder(), Recorder()]
    file = RecordFile(path)
    file.show_on(dashboards)
    file.append({"step": 3, "epoch": 1, "split": "test", "loss": 0.5, "top1": 0.75})
    file.close()
    for dashboard in dashboards:
        assert dashboard.written == [(3, {"test/loss": 0.5, "test/top1": 0.75})]
        assert dashboard.closed


def validations(*top1s):
    return [record(i, "validation", top1=top1) for i, top1 in enumerate(top1s, start=1)]


@pytest.mark.parametrize(
    ("top1s", "stops_after"),
    [
        ((0.1, 0.2, 0.3, 0.4), None),
        # Two in a row that are no better than the best before them; an equal one is no better.
        ((0.3, 0.2, 0.1, 0.4), 3),
        ((0.3, 0.3, 0.3, 0.4), 3),
        ((0.3, 0.2, 0.4, 0.1, 0.4), 5),
        ((0.3, 0.2), None),
    ],
)
def test_patience_ends_after_evaluations_without_a_better_one(top1s, stops_after):
    records = validations(*top1s)
    stops = [n for n in range(len(top1s) + 1) if out_of_patience(records[:n], patience=2)]
    assert (stops[0] if stops else None) == stops_after
    assert not out_of_patience(records, patience=0)


def test_a_run_with_validation_is_complete_once_its_last_weights_are_tested():
    ended = validations(0.3, 0.2, 0.1)
    best = record(1, "test", checkpoint="best", top1=0.25)
    last = record(3, "test", top1=0.05)
    for epochs, patience in ((3, 0), (9, 2)):
        assert not is_complete(ended, epochs, patience)
        assert not is_complete([*ended, best], epochs, patience)
        assert is_complete([*ended, best, last], epochs, patience)
    # Not all of the epochs, or a longer patience; and trained further after the test.
    assert not is_complete([*ended, best, last], 4, 0)
    assert not is_complete([*ended, best, last], 9, 3)
    assert not is_complete([*ended, best, last, record(4, "validation")], 4, 0)
    assert of_best_checkpoint([*ended, best, last]) == best
    assert of_split([*ended, best, last], "test") == [last]
