"""A record that was lost, doubled or moved is found, and no healthy run is taken for such a one."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.run_folder.histories import histories
from vasso_jax.runs.records import digest, parse, until


def content(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def refusal(records):
    """Why these records are refused; empty if they are not."""
    try:
        parse(content(records), "metrics.jsonl", "repair it")
    except ValueError as error:
        return str(error)
    return ""


def is_refused(records):
    text = refusal(records)
    assert not text or "does not follow" in text
    return bool(text)


def at_end_of_epoch(record):
    """What an epoch may lack, and whose order within it may differ."""
    return record["split"] in ("validation", "test", "sharpness") and "checkpoint" not in record


few = settings(max_examples=50)


@few
@given(written=histories(), data=st.data())
def test_healthy_runs_are_read_wherever_they_were_killed(written, data):
    assert not is_refused(written)
    killed = written[: data.draw(st.integers(0, len(written)))]
    assert not is_refused(killed)
    # And they go on at any checkpoint.
    step = data.draw(st.integers(0, written[-1]["step"]))
    kept = until(killed, step)
    assert kept == killed[: len(kept)]
    assert not is_refused(kept)
    assert [r for r in killed[len(kept) :] if "checkpoint" not in r][:1] == [
        record for record in killed if record["step"] > step
    ][:1]


@few
@given(written=histories(), data=st.data())
def test_a_record_that_is_there_twice_is_found(written, data):
    i = data.draw(st.integers(0, len(written) - 1))
    assert is_refused([*written[: i + 1], *written[i:]])


@given(written=histories(), data=st.data())
def test_a_lost_record_is_found(written, data):
    i = data.draw(st.integers(0, len(written) - 1))
    lost, rest = written[i], [*written[:i], *written[i + 1 :]]
    assert digest(rest) != digest(written)
    windows = [record["split"] for record in written].count("train_steps")
    one_of_a_pair = lost["split"] == "test" and any("checkpoint" in r for r in written)
    if at_end_of_epoch(lost) and not one_of_a_pair:
        return  # this evaluation may have failed
    if i + 1 < len(written) and (lost["split"] != "train_steps" or windows > 2):
        assert is_refused(rest)


@given(written=histories(), data=st.data())
def test_two_records_that_changed_places_are_found(written, data):
    i, j = sorted(data.draw(st.integers(0, len(written) - 1)) for _ in range(2))
    moved = [*written]
    moved[i], moved[j] = moved[j], moved[i]
    if moved == written:
        return
    assert digest(moved) != digest(written)
    one, other = written[i], written[j]
    # Of a run that was extended, and each time had the same best checkpoint.
    both_best = "checkpoint" in one and "checkpoint" in other
    cannot_tell = both_best or (at_end_of_epoch(one) and at_end_of_epoch(other))
    if not (one["step"] == other["step"] and cannot_tell):
        assert is_refused(moved)


def of(split, step, epoch, **more):
    return {
        "split": split,
        "step": step,
        "epoch": epoch,
        "top1": 0.5,
        "loss": 1,
        "seconds": 1,
        **more,
    }


TRAIN = [of("train", 5, 1), of("test", 5, 1), of("train", 10, 2), of("test", 10, 2)]
VALIDATED = [
    *(of("train", 5, 1), of("validation", 5, 1)),
    *(of("test", 5, 1, checkpoint="best"), of("test", 5, 1)),
]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (TRAIN[2:], "line 1 of metrics.jsonl does not follow on the one before (train of epoch 2"),
        ([*TRAIN[:2], *TRAIN], "line 3 .* (train of epoch 1 at step 5, after epoch 1 and step 5)"),
        ([*TRAIN[:2], of("train", 11, 2)], "(train of epoch 2 at step 11, after epoch 1 and st"),
        ([*TRAIN, of("train", 15, 4)], "(train of epoch 4 at step 15"),
        ([*TRAIN[:3], of("test", 9, 2)], "(test of epoch 2 at step 9"),
        ([*TRAIN[:3], of("test", 10, 1)], "(test of epoch 1 at step 10"),
        ([*TRAIN, of("validation", 10, 2)], "line 5 .*(validation of epoch 2"),
        ([*VALIDATED[:3], of("train", 10, 2)], "where the test of the last checkpoint is missing"),
        ([*VALIDATED[:2], VALIDATED[3]], "line 3 .*(test of epoch 1"),
        ([*VALIDATED[:2], of("test", 6, 1, checkpoint="best")], "(test of epoch 1 at step 6"),
        ([of("train_steps", 2, 0), of("train_steps", 6, 1)], "(train_steps of epoch 1 at step 6"),
        ([of("train_steps", 2, 0), of("train", 5, 1)], "line 2 .*(train of epoch 1 at step 5"),
    ],
)
def test_the_message_says_where_and_what_to_do(records, message):
    start, _, inside = message.partition(".*")
    with pytest.raises(ValueError, match="a record was lost, doubled or moved: repair") as refused:
        parse(content(records), "metrics.jsonl", "repair it")
    assert start.strip() in str(refused.value)
    assert inside.strip() in str(refused.value)


def test_a_run_that_only_evaluates_has_one_record():
    assert not is_refused([of("test", 0, 0)])
    assert is_refused([of("test", 0, 0), of("test", 0, 0)])
    assert is_refused([of("test", 0, 1)])


def test_a_split_of_a_later_version_may_stand_anywhere():
    other = of("other", 3, 7)
    assert not is_refused([other, *TRAIN[:1], other, *TRAIN[1:], other, other])


def test_a_pair_of_tests_that_was_cut_is_made_again():
    assert until(VALIDATED, 5) == VALIDATED
    assert until(VALIDATED[:3], 5) == VALIDATED[:2]
