"""A checkpoint is resumed beside the settings, data and records that it was written with only."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.run_folder.histories import histories
from tests.run_folder.written import SETTINGS, changed
from vasso_jax.runs import RecordFile, check_fingerprint, fingerprint
from vasso_jax.runs.records import digest

FACTS = {"name": "digits", "train_images": 8, "class_names": ["a", "b"]}


def of(split, epoch, **more):
    figures = {"top1": 0.5, "loss": 1.0, "seconds": 1.0}
    return {"split": split, "step": 5 * epoch, "epoch": epoch, **figures, **more}


RECORDS = [of(split, epoch) for epoch in (1, 2, 3) for split in ("train", "test")]


def found(records=RECORDS[:4], settings=SETTINGS, facts=FACTS):
    """As it is read from a checkpoint."""
    return json.loads(json.dumps(fingerprint(settings, facts, digest(records))))


def refused(match, *, step=10, settings=SETTINGS, facts=FACTS, records=RECORDS, **written):
    with pytest.raises(ValueError, match=f"{match}.*bring it back, or start in a new workdir"):
        check_fingerprint(found(**written), step, settings, facts, records)


@settings(max_examples=30)
@given(written=histories(), data=st.data())
def test_the_run_that_wrote_it_goes_on(written, data):
    saved = data.draw(st.integers(1, len(written)))
    step = written[saved - 1]["step"]
    if "checkpoint" in written[saved - 1]:
        return  # saved before it
    about = found(written[:saved])
    # It may have gone on for as long as it wants since then.
    ended = data.draw(st.integers(saved, len(written)))
    check_fingerprint(about, step, SETTINGS, FACTS, written[:ended])


def test_settings_may_change_as_they_may_on_resume():
    for others in (
        changed(SETTINGS, data__dir="elsewhere", fsdp=2),
        SETTINGS | {"new": 1},
        {name: value for name, value in SETTINGS.items() if name != "augment"},
    ):
        check_fingerprint(found(), 10, others, FACTS, RECORDS)
    refused(
        r"config\.json is not that of the run that wrote the checkpoint of step 10 \(seed=0 there, "
        r"1 here\): ",
        settings=changed(SETTINGS, seed=1),
    )
    refused(r"config\.json .*label_noise=", settings=changed(SETTINGS, label_noise={"rate": 0.1}))


def test_other_data_are_refused():
    check_fingerprint(found(), 10, SETTINGS, FACTS | {"validation_images": 0}, RECORDS)
    refused(r"dataset\.json .*train_images=8 there, 9 here", facts=FACTS | {"train_images": 9})


def test_only_a_run_that_was_given_more_epochs_has_others():
    more = changed(SETTINGS, epochs=3)
    for step in (5, 10):  # within the two epochs that it had, and at their end
        check_fingerprint(found(records=RECORDS[:2]), step, more, FACTS, RECORDS, earlier=[2])
    refused("epochs=2 there, 3 here", settings=more)


@pytest.mark.parametrize(
    "records",
    [
        RECORDS[:3],
        [],
        [*RECORDS[:1], *RECORDS[2:]],
        [*RECORDS[:3], of("test", 2, top1=0.6), *RECORDS[4:]],
    ],
)
def test_records_that_were_changed_are_refused(records):
    refused(
        r"metrics\.jsonl was changed since the checkpoint of step 10 was written, with 4 records",
        records=records,
    )


def test_the_file_knows_the_digest_of_its_records(tmp_path):
    file = RecordFile(tmp_path / "metrics.jsonl")
    for record in RECORDS:
        file.append(record)
    assert file.digest == digest(RECORDS) == RecordFile(tmp_path / "metrics.jsonl").digest
    file.keep_until(7)
    assert file.digest == digest(RECORDS[:2])
    file.append(*RECORDS[2:4])
    assert file.digest == digest(RECORDS[:4])
