"""The command that compares runs: what it prints and writes, and what it refuses."""

import csv
import json
import pathlib
import re
import sys

import pytest

from tests.run_folder.written import DATA, SAM, VASSO, write_run, write_two_methods, write_validated
from vasso_jax.cli import compare
from vasso_jax.runs import FORMAT, group_runs, read_run, tables


@pytest.fixture
def two_methods(tmp_path):
    return write_two_methods(tmp_path)


def test_the_command_prints_and_writes_the_table_and_the_picture(two_methods, tmp_path, capsys):
    unfinished = write_run(tmp_path / "unfinished", 0.5, seed=7)
    page, picture = tmp_path / "table.md", tmp_path / "curves.png"
    compare.main([*map(str, [*two_methods, unfinished]), f"--markdown={page}", f"--png={picture}"])
    out = capsys.readouterr().out
    note = f"left out, unfinished: {unfinished} (epoch 1 of 2)"
    assert "vasso theta=0.4 │" in out
    assert "75.00 +- 25.00" in out
    assert note in out.splitlines()
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.read_text().splitlines()
        if line.startswith("|")
    ]
    header, rule, *rows = lines[:4]
    assert header == list(tables.header("top1"))
    assert rule == ["---", *["---:"] * (len(header) - 1)]
    # VaSSO minus SAM, by the seeds 0 and 1 that both have; the first row is the baseline.
    assert lines[4][0] == "minus vasso theta=0.4"
    assert lines[6][:2] == ["sam", "-37.50"]
    assert lines[6][3] == "2"
    groups = group_runs(map(read_run, two_methods))
    assert rows == [list(tables.cells(group)) for group in groups]
    assert page.read_text().splitlines()[-1] == note
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 5000


def test_the_page_has_the_tables_and_all_notes(two_methods, tmp_path, capsys):
    unfinished = write_run(tmp_path / "unfinished", 0.5, seed=7)
    longer = write_run(tmp_path / "longer", 0.5, 0.5, 0.5, epochs=3)
    page = tmp_path / "page.html"
    compare.main([*map(str, [*two_methods, unfinished, longer]), f"--html={page}"])
    notes = capsys.readouterr().out.splitlines()[-3:]
    text = page.read_text()
    assert notes[0].startswith("not trained equally long")
    assert "".join(f'<p class="note">{note}</p>\n' for note in notes) in text
    assert text.count("<td>75.00 +- 25.00</td>") == 1
    assert "<td>-37.50</td>" in text


def test_a_page_without_plotly_is_refused_before_anything_is_printed(
    two_methods, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit) as end:
        compare.main([*map(str, two_methods), f"--html={page}"])
    assert end.value.code == 2
    assert capsys.readouterr() == ("", "error: an HTML page needs plotly: pip install plotly\n")
    assert not page.exists()


def test_a_folder_stands_for_the_runs_below_it(two_methods, tmp_path, capsys):
    write_run(tmp_path / "more" / "untested")
    (tmp_path / "more" / "empty").mkdir()
    # What lies within a run folder is no other run.
    within = two_methods[0] / "checkpoints" / "10"
    within.mkdir()
    (within / "config.json").write_text("{}")
    compare.main([*map(str, two_methods)])
    one_by_one = capsys.readouterr().out
    compare.main([str(tmp_path), "--baseline=vasso theta=0.4"])
    *lines, note = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(one_by_one.splitlines())
    assert lines[-1].startswith("best: the best epoch, picked on the test set")
    assert note == f"left out, not evaluated yet: {tmp_path / 'more/untested'}"


def test_json_and_csv_have_every_run(two_methods, tmp_path):
    write_run(tmp_path / "none", 0.5, 0.5, method={"name": "none"}, epochs=2)
    write_run(tmp_path / "none1", 0.5, 0.5, method={"name": "none"}, seed=1, batch_size=64)
    to_json, to_csv = tmp_path / "runs.json", tmp_path / "runs.csv"
    compare.main([str(tmp_path), "--metric=loss", f"--json={to_json}", f"--csv={to_csv}"])
    found = json.loads(to_json.read_text())
    assert found["metric"] == "loss"
    assert found["baseline"].startswith("none")
    assert "not trained equally long" in found["notes"][0]
    rows = list(csv.DictReader(to_csv.read_text().splitlines()))
    assert len(rows) == len(found["runs"]) == 7
    for row, run in zip(rows, found["runs"], strict=True):
        assert row["run"] == run["run"]
        assert float(row["last"]) == run["last"] == 0.5
        assert row["seeds"] == " ".join(map(str, run["seeds"]))


def test_runs_with_validation_say_what_the_best_was_picked_by(two_methods, tmp_path, capsys):
    def validated(seed):
        return write_validated(
            tmp_path / f"own{seed}", 0.5, 0.75, 0.25, best=0.625, last=0.5, seed=seed
        )

    ours = [str(validated(seed)) for seed in (0, 1)]
    compare.main([*ours, f"--csv={tmp_path / 'runs.csv'}"])
    assert "picked on" not in capsys.readouterr().out
    (row, _) = csv.DictReader((tmp_path / "runs.csv").read_text().splitlines())
    assert (row["last"], row["best"]) == ("0.5", "0.625")
    assert read_run(pathlib.Path(ours[0])).best_validation() == 0.75
    compare.main([*ours, *map(str, two_methods[3:])])
    assert "best of sam epochs=2: the best epoch, picked on the test set" in capsys.readouterr().out
    # Before the end, nothing has been tested.
    records = pathlib.Path(ours[0], "metrics.jsonl")
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:-1]))
    compare.main(ours)
    assert f"left out, unfinished: {ours[0]} (epoch 3 of 3)" in capsys.readouterr().out


def _missing(folder):
    return [folder / "nothing"], "is not a run folder"


def _untested(folder):
    return [write_run(folder / "run")], "has no test record yet"


def _damaged(folder):
    run = write_run(folder / "run", 0.5, 0.5)
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(text.replace('"epoch": 1', '"epoch": one', 1))
    return [run], "line 1 of"


def _not_a_number(folder):
    run = write_run(folder / "run", "high", 0.5)
    return [run], "line 2 of"


def _damaged_config(folder):
    run = write_run(folder / "run", 0.5, 0.5)
    (run / "config.json").write_text("[1")
    return [run], "config.json is damaged"


def _older(folder):
    run = write_run(folder / "run", 0.5, 0.5)
    (run / "config.json").write_text('{"epochs": 2}')
    return [run], "was written by an older version of vasso_jax.*leave this run out, or use the ver"


def _newer(folder):
    run = write_run(folder / "run", 0.5, 0.5)
    (run / "config.json").write_text(json.dumps({"epochs": 2, "format": FORMAT + 1}))
    return [run], "needs a newer vasso_jax"


def _twice(folder):
    run = write_run(folder / "run", 0.5, 0.5)
    return [run, run], "are the same run"


def _copied(folder):
    return [write_run(folder / name, 0.5, 0.5) for name in "ab"], "are the same run"


def _other_data(folder):
    other = DATA | {"train_images": 9}
    return [
        write_run(folder / "a", 0.5, 0.5),
        write_run(folder / "b", 0.5, 0.5, seed=1, data=other),
    ], "but not the same data"


def _only_unfinished(folder):
    return [write_run(folder / "run", 0.5)], r"no run has finished.*epoch 1 of 2"


def _no_such_metric(folder):
    return [write_run(folder / "run", 0.5, 0.5), "--metric=top7"], "has no test top7, only"


def _baseline_without_pairs(folder):
    runs = [write_run(folder / name, 0.5, 0.5, method=m) for name, m in (("a", SAM), ("b", VASSO))]
    return [*runs, "--baseline=sam"], "--baseline=sam has no effect: no other row has two seeds"


def _picture_of_another_metric(folder):
    runs = write_two_methods(folder)
    return [*runs, "--metric=loss", f"--png={folder}/x.png"], "--png draws top1, and not loss"


def _no_such_baseline(folder):
    return [*write_two_methods(folder), "--baseline=x"], "there is no row 'x'.*'vasso theta=0.4'"


@pytest.mark.parametrize(
    "make",
    [
        *(_missing, _untested, _damaged, _not_a_number, _damaged_config),
        *(_older, _newer, _twice, _copied, _other_data, _only_unfinished),
        *(_no_such_metric, _no_such_baseline),
        *(_baseline_without_pairs, _picture_of_another_metric),
    ],
)
def test_bad_input_is_one_message(make, tmp_path, capsys):
    folders, message = make(tmp_path)
    with pytest.raises(SystemExit) as end:
        compare.main([*map(str, folders)])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert re.search(message, err)
