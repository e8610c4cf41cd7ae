"""The campaign in short: a few trials of each part, and that they can fail."""

import json
import random
import shutil

import pytest

from tests.faults.campaign import damages, inputs, interruptions
from tests.faults.campaign.figures import Failure, Figures
from tests.faults.campaign.references import Reference, References

pytestmark = pytest.mark.slow


@pytest.fixture
def references(unbroken, tmp_path):
    workdir, result, _ = unbroken
    return References(tmp_path, {"plain": Reference("plain", workdir, result["seconds"])})


def test_an_interrupted_run_ends_as_an_unbroken_one(references, tmp_path):
    figures = Figures()
    for i in range(5):  # how far a run is at its first interruption depends on the machine
        (tmp_path / str(i)).mkdir()
        interruptions.trial(random.Random(i), references, tmp_path / str(i), figures, most=3)
        if figures.total(interruptions.PART) > 1:
            break
    assert figures.total(interruptions.PART) > 1


def test_a_damaged_run_heals_or_is_refused(references, tmp_path):
    figures = Figures()
    interrupted = damages.Interrupted(references, tmp_path)
    for i in range(3):
        (tmp_path / str(i)).mkdir()
        damages.trial(random.Random(i), interrupted, tmp_path / str(i), figures)
    assert figures.total(damages.PART) >= 3


def test_wrong_input_is_refused(tmp_path):
    figures, checker = Figures(), inputs.Checker()
    try:
        inputs.trial(random.Random(0), checker, tmp_path, figures)
    finally:
        checker.close()
    assert figures.total(inputs.PART) > 20


def test_another_result_is_seen(references, tmp_path):
    reference = references.draw(random.Random(0))
    changed = tmp_path / "changed"
    shutil.copytree(reference.workdir, changed)
    reference.check_same(changed)
    lines = (changed / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    records[0]["loss"] += 1e-7
    (changed / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    with pytest.raises(Failure, match="records"):
        reference.check_same(changed)
