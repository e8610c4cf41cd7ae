"""Groups of runs, their statistics against numbers worked out by hand, and the command."""

import json
import math
import re

import pytest

from vasso_jax import compare
from vasso_jax.analysis import comparison, tables
from vasso_jax.analysis.comparison import estimate, group_runs, load_run, paired_difference
from vasso_jax.train import workdir

DATA = {"name": "digits", "train_images": 8, "label_noise": {"seed": 3}}
CONFIG = {"dataset": "digits", "optimizer": "vasso", "theta": 0.4, "seed": 0, "epochs": 2}


def write_run(folder, *top1s, loss=0.5, data=DATA, **settings):
    """A run folder as the trainer leaves it, with a test record for each of `top1s`."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | settings))
    (folder / "dataset.json").write_text(json.dumps(data))
    lines = []
    for epoch, top1 in enumerate(top1s, start=1):
        record = {"step": 10 * epoch, "epoch": epoch, "loss": loss, "seconds": 3.0 * epoch}
        lines += [{**record, "split": "train", "top1": 1.0}]
        lines += [{**record, "split": "test", "top1": top1}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def two_methods(tmp_path):
    """VaSSO with three seeds, SAM with two."""
    vasso = [
        write_run(tmp_path / f"vasso{seed}", best, last, seed=seed)
        for seed, (best, last) in enumerate([(0.75, 0.5), (0.25, 0.75), (0.5, 1.0)])
    ]
    sam = [
        write_run(tmp_path / f"sam{seed}", 0.25, 0.25, optimizer="sam", theta=None, seed=seed)
        for seed in (0, 1)
    ]
    return [*vasso, *sam]


def test_groups_are_named_by_where_they_differ(two_methods):
    groups = group_runs(map(load_run, two_methods))
    assert [group.name for group in groups] == ["optimizer=vasso theta=0.4", "optimizer=sam"]
    assert [len(group.runs) for group in groups] == [3, 2]


def test_a_row_has_the_means_and_deviations(two_methods):
    vasso, sam = map(tables.cells, group_runs(map(load_run, two_methods)))
    # Last epoch 50, 75, 100: deviations -25, 0, 25, so the variance is 1250 / 2. Best epoch 75, 75,
    # 100: mean 83.33, variance (8.33^2 + 8.33^2 + 16.67^2) / 2 = 208.3.
    assert vasso[1:] == (
        *("3", "2", "75.00 +- 25.00", "83.33 +- 14.43"),
        *("0.5000 +- 0.0000", "6.0 +- 0.0"),
    )
    assert sam[3] == "25.00 +- 0.00"


def test_one_run_has_no_deviation(tmp_path):
    (group,) = group_runs([load_run(write_run(tmp_path / "run", 0.5, 0.75))])
    assert group.name == "dataset=digits optimizer=vasso"
    assert tables.cells(group)[3] == "75.00"
    assert estimate([0.75]).std is None


def test_where_a_run_lies_makes_no_other_group(tmp_path):
    runs = [
        write_run(tmp_path / f"{i}", 0.5, 0.5, seed=i, data_dir=f"/{i}", tensorboard=bool(i))
        for i in (0, 1)
    ]
    assert len(group_runs(map(load_run, runs))) == 1
    # But the folder is the name of such a set.
    runs = [
        write_run(tmp_path / f"npz{i}", 0.5, 0.5, seed=i, data_dir=f"/{i}", dataset="npz")
        for i in (0, 1)
    ]
    assert [g.name for g in group_runs(map(load_run, runs))] == ["data_dir=/0", "data_dir=/1"]
    assert comparison.INCIDENTAL == workdir._MAY_CHANGE


def test_noise_drawn_with_each_seed_is_one_group(tmp_path):
    noise = {"label_noise": "symmetric", "label_noise_rate": 0.5}
    runs = [
        write_run(tmp_path / f"{i}", 0.5, 0.5, seed=i, label_noise_seed=i, **noise) for i in (0, 1)
    ]
    (group,) = group_runs(map(load_run, runs))
    assert [run.seeds for run in group.runs] == [(0, 0), (1, 1)]


def test_a_paired_difference_and_its_interval():
    # Differences 1, 2, 3: s = 1, and t(0.975, 2) = 4.302653 in every table.
    result = paired_difference({0: 2, 1: 4, 2: 6, 9: 100}, {0: 1, 1: 2, 2: 3, 8: 0})
    assert (result.mean, result.n) == (2, 3)
    assert result.high - 2 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert result.low + result.high == pytest.approx(4)
    with pytest.raises(ValueError, match="two seeds in both at least, there are 1"):
        paired_difference({0: 1.0, 1: 2.0}, {0: 1.0})


def test_the_command_prints_and_writes_the_table_and_the_picture(two_methods, tmp_path, capsys):
    unfinished = write_run(tmp_path / "unfinished", 0.5, seed=7)
    page, picture = tmp_path / "table.md", tmp_path / "curves.png"
    compare.main([*map(str, [*two_methods, unfinished]), f"--markdown={page}", f"--png={picture}"])
    out = capsys.readouterr().out
    note = f"left out, unfinished: {unfinished} (epoch 1 of 2)"
    assert "optimizer=vasso theta=0.4 │" in out
    assert "75.00 +- 25.00" in out
    assert note in out.splitlines()
    header, rule, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.read_text().splitlines()
        if line.startswith("|")
    ]
    assert header == list(tables.HEADER)
    assert rule == ["---", *["---:"] * (len(header) - 1)]
    groups = group_runs(map(load_run, two_methods))
    assert rows == [list(tables.cells(group)) for group in groups]
    assert page.read_text().splitlines()[-1] == note
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 5000


def _missing(folder):
    return [folder / "nothing"], "is no run folder"


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
    return [run], "config.json is missing or damaged"


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


@pytest.mark.parametrize(
    "make",
    [
        *(_missing, _untested, _damaged, _not_a_number, _damaged_config),
        *(_twice, _copied, _other_data, _only_unfinished),
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


def test_a_record_that_is_being_written_does_not_count_yet(tmp_path):
    run = write_run(tmp_path / "run", 0.5, 0.75)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "epo')
    assert load_run(run).last_top1 == 0.75
