"""The table of mixup and averaged weights in the documentation, against its records."""

import json
import re
import statistics

from scipy import stats

from tests.runs import ROOT

RECORDS = ROOT / "studies/ema_mixup/results"
NAMES = {"none": "SGD", "sam": "SAM", "vasso": "VaSSO"}


def read(metric):
    """{name of the row: its values in percent}, and the differences."""
    record = json.loads((RECORDS / f"{metric}.json").read_text())
    values = {}
    for run in record["runs"]:
        values.setdefault(row_of(run["group"]), []).append(100 * run["last"])
    return values, {row_of(name): each for name, each in record["differences"].items()}


def row_of(group):
    mixed = group.endswith("mixup_alpha=0.2")
    return NAMES[group.split()[0]] + (", mixup" if mixed else "")


def interval(values):
    mean, std = statistics.fmean(values), statistics.stdev(values)
    margin = stats.t.ppf(0.975, len(values) - 1) * std / len(values) ** 0.5
    return f"{mean:.2f} [{mean - margin:.2f}, {mean + margin:.2f}]"


def test_the_table_is_that_of_the_records():
    page = (ROOT / "docs/results.md").read_text().partition("## With mixup")[2]
    rows = re.findall(r"^\| ((?:SGD|SAM|VaSSO)[^|]*) \| (.*?) \| (.*?) \| (.*?) \|$", page, re.M)
    rows = rows[:6]
    plain, differences = read("top1")
    averaged, _ = read("ema_top1")
    assert sorted(name for name, *_ in rows) == sorted(plain)
    for name, of_weights, of_average, difference in rows:
        assert len(plain[name]) == len(averaged[name]) == 5
        assert of_weights == interval(plain[name])
        assert of_average == interval(averaged[name])
        if name != "SGD":
            found = [100 * differences[name][key] for key in ("mean", "low", "high")]
            assert difference == "{:+.2f} [{:+.2f}, {:+.2f}]".format(*found)
    # In no run do the two differ by more than one of 359 images.
    for name in plain:
        for a, b in zip(plain[name], averaged[name], strict=True):
            assert abs(a - b) < 100 / 359 + 1e-9
