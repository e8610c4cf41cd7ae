"""Measured sharpness in the comparison of runs: figures, notes, tables and the page."""

import json
import re

import pytest

from tests.run_folder.measured import measurement, trace
from tests.run_folder.test_page import Page, page_of, rewritten
from tests.run_folder.written import write_run, write_two_methods
from vasso_jax.cli import compare
from vasso_jax.runs import (
    RunFolder,
    add_measurement,
    group_runs,
    interval,
    is_figure,
    read_run,
    sharpness_tables,
    tables,
)
from vasso_jax.runs.sharpness import CAVEAT
from vasso_jax.runs.statistics import Estimate


@pytest.fixture
def two_methods(tmp_path):
    """VaSSO with three seeds and SAM with two, measured."""
    folders = write_two_methods(tmp_path)
    for i, folder in enumerate(folders):
        path = RunFolder(folder).sharpness_path
        add_measurement(path, measurement(figures={"lambda_1": 10.0 + i}))
        add_measurement(path, trace(100.0 * i))
        add_measurement(path, measurement(10, figures={"lambda_1": 99.0}))
    return folders


def test_a_run_has_the_newest_figures_of_its_last_checkpoint(two_methods):
    path = RunFolder(two_methods[0]).sharpness_path
    assert read_run(two_methods[0]).figures == {"lambda_1": 10.0, "trace": 0.0}
    add_measurement(path, measurement(settings={"largest": 1}, figures={"lambda_1": 7.0}))
    run = read_run(two_methods[0])
    assert run.last("lambda_1") == 7.0
    with pytest.raises(
        ValueError, match="no lambda_min of its last checkpoint; there are lambda_1"
    ):
        run.last("lambda_min")
    with pytest.raises(
        ValueError, match=r"has no test lambda, only .*; measured was lambda_1, trace$"
    ):
        run.last("lambda")


def test_figures_are_told_from_metrics_by_their_names():
    assert all(map(is_figure, ["lambda_1", "trace", "worst_l2_0.1", "adaptive_average_linf_1"]))
    assert not any(map(is_figure, ["top1", "loss", "ema_top1", "test_trace"]))


def test_the_interval_of_a_mean_is_students():
    # t(0.975, 3) = 3.18245
    low, high = interval(Estimate(1.0, 2.0, 4))
    assert (low, high) == pytest.approx((1 - 3.18245, 1 + 3.18245), abs=1e-4)
    assert interval(Estimate(1.0, None, 1)) is None


def test_compare_takes_a_figure_as_its_metric(two_methods, tmp_path, capsys):
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "html")}
    options = [f"--{kind}={path}" for kind, path in files.items()]
    compare.main([*map(str, two_methods), "--metric=lambda_1", *options])
    out = capsys.readouterr().out
    assert "11 +- 1 " in out  # of 10, 11, 12
    assert tables.SPREAD in out.splitlines()
    assert "13.5 +- 0.71" in out
    assert "last top1" in out
    assert "picked on the test set" not in out
    assert out.splitlines()[-1] == CAVEAT
    found = json.loads(files["json"].read_text())
    assert [run["last"] for run in found["runs"]] == [10, 11, 12, 13, 14]
    assert [run["trace"] for run in found["runs"]] == [0, 100, 200, 300, 400]
    assert found["runs"][0]["best"] is None
    assert found["differences"]["sam"]["mean"] == 3.0
    assert files["csv"].read_text().splitlines()[0].endswith(",lambda_1,trace")
    page = Page(files["html"].read_text())
    assert "Largest eigenvalue of the Hessian: 5 runs in 2 groups" in page.text


def test_the_page_has_a_section_if_something_was_measured(two_methods, tmp_path):
    text, groups = page_of(two_methods)
    page = Page(text)
    header = list(sharpness_tables.group_header(("lambda_1", "trace")))
    place = page.rows.index(header)
    # t(0.975, 2) / sqrt(3) = 2.484
    intervals = ["11 [8.516, 13.48]", "100 [-148.4, 348.4]"]
    assert page.rows[place + 1] == [groups[0].name, "3", *intervals]
    assert sharpness_tables.MEANS in page.text
    assert CAVEAT in page.text
    RunFolder(two_methods[-1]).sharpness_path.unlink()
    page = Page(page_of(two_methods)[0])
    assert page.rows[place + 2][2:] == ["", ""]  # a mean of one of two runs would be unfair
    for folder in two_methods[:-1]:
        RunFolder(folder).sharpness_path.unlink()
    page = Page(page_of(two_methods)[0])
    assert header not in page.rows
    assert CAVEAT not in page.text


def test_a_note_says_so_where_runs_were_measured_in_other_ways(two_methods, capsys):
    path = RunFolder(two_methods[-1]).sharpness_path
    settings = {"largest": 5, "loss": {"examples": 6, "sizes": [1, 2]}}
    add_measurement(path, measurement(settings=settings, figures={"lambda_1": 7.0}))
    note = "not measured in the same way: lambda_1: loss.examples=8 there, 6 here"
    compare.main([*map(str, two_methods), "--metric=lambda_1"])
    assert capsys.readouterr().out.splitlines()[-1] == note
    assert note in Page(page_of(two_methods)[0]).text
    compare.main([*map(str, two_methods), "--metric=trace"])
    assert "not measured" not in capsys.readouterr().out


def test_images_that_were_left_out_are_another_way(two_methods, capsys):
    path = RunFolder(two_methods[-1]).sharpness_path
    figures = {"lambda_1": 7.0}
    for examples, note in ((8, ""), (7, "lambda_1: loss.examples=8 there, 7 here")):
        path.unlink()
        add_measurement(path, measurement(figures=figures, details={"examples": examples}))
        compare.main([*map(str, two_methods), "--metric=lambda_1"])
        out = capsys.readouterr().out
        assert ("not measured in the same way" in out) == bool(note)
        assert note in out


@pytest.mark.parametrize("content", ["[", '{"format": 2, "measurements": []}'])
def test_a_file_that_cannot_be_read_is_no_error_until_it_is_asked_for(
    two_methods, tmp_path, capsys, content
):
    path = RunFolder(two_methods[1]).sharpness_path
    path.write_text(content)
    command, page = [*map(str, two_methods)], tmp_path / "page.html"
    compare.main([*command, f"--html={page}"])
    out = capsys.readouterr().out
    assert "75.00 +- 25.00" in out  # of all three runs
    note = out.splitlines()[-1]
    assert note.startswith(f"without its sharpness: {path} ")
    assert note in Page(page.read_text()).text
    with pytest.raises(SystemExit):
        compare.main([*command, "--metric=lambda_1"])
    err = capsys.readouterr().err
    assert err == f"error: {note.removeprefix('without its sharpness: ')}\n"
    compare.main([command[0], "--metric=lambda_1"])


def test_a_run_that_was_not_measured_is_named(two_methods, capsys):
    RunFolder(two_methods[1]).sharpness_path.unlink()
    with pytest.raises(SystemExit):
        compare.main([*map(str, two_methods), "--metric=trace"])
    err = capsys.readouterr().err
    assert re.search(rf"{two_methods[1]} has no trace .*: measure it by vasso-jax sharpness", err)


def test_rows_of_checkpoints_have_standard_errors(two_methods):
    made = read_run(two_methods[1]).measurements[:2]
    figures = ("lambda_1", "trace", "worst_l2_1")
    cells = sharpness_tables.checkpoint_cells("vasso1", made, figures)
    assert cells == ("vasso1@20", "11", "100 +- 0.25", "")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (12345.6, 123.4, "12350 +- 120"),
        (0.012345, None, "0.01235"),
        (-3.0, 0.0, "-3 +- 0"),
        (1e-7, 2.5e-9, "1e-07 +- 2.5e-09"),
    ],
)
def test_figures_of_any_size_are_shown_with_digits_that_count(value, error, text):
    assert tables.with_error(value, error) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Estimate(11.0, 1.0, 3), "11 [8.516, 13.48]"),
        (Estimate(12345.6, 0.0, 2), "12350 [12350, 12350]"),
        (Estimate(0.012345, None, 1), "0.01235"),
    ],
)
def test_means_have_their_intervals(value, text):
    assert tables.with_interval(value) == text


def test_wide_tables_become_several():
    header = ("run", "a" * 10, "b" * 10, "c" * 30, "d")
    rows = [("r" * 9, "1", "2", "3", "4")]
    parts = tables.in_width(header, rows, 40)
    assert [part for part, _ in parts] == [
        ["run", "a" * 10, "b" * 10],
        ["run", "c" * 30],
        ["run", "d"],
    ]
    assert parts[0][1] == [["r" * 9, "1", "2"]]
    assert tables.in_width(header, rows, 200) == [([*header], [[*rows[0]]])]


def test_as_data_there_are_means_and_intervals(two_methods):
    groups = group_runs(map(read_run, two_methods))
    found = {run.folder: run.measurements[:2] for group in groups for run in group.runs}
    data = sharpness_tables.as_data(found, groups)
    assert json.loads(json.dumps(data)) == data
    assert len(data["runs"]) == 5
    assert data["runs"][1]["measurements"][0]["figures"] == {"lambda_1": 11.0}
    of_vasso = data["groups"][0]["figures"]["lambda_1"]
    assert of_vasso["mean"] == 11.0
    assert (of_vasso["low"], of_vasso["high"]) == pytest.approx((8.516, 13.484), abs=1e-3)


def test_records_of_the_training_are_series_of_the_page(tmp_path):
    folder = write_run(tmp_path / "run", 0.5, 0.75)
    path = RunFolder(folder).metrics_path
    lines = path.read_text().splitlines(keepends=True)
    for place, (epoch, value) in zip((4, 2), ((2, 8.0), (1, 16.0)), strict=True):
        record = {"step": 10 * epoch, "epoch": epoch, "split": "sharpness", "seconds": 3.0}
        lines.insert(place, json.dumps(record | {"lambda_1": value, "trace": 5 * value}) + "\n")
    path.write_text("".join(lines))
    page = Page(page_of([folder])[0])
    titles = ["largest eigenvalue of the Hessian", "trace of the Hessian"]
    assert page.titles[-2:] == titles
    assert [page.traces(title)[0]["y"] for title in titles] == [[16, 8], [80, 40]]
    assert page.traces(titles[0])[0]["x"] == [1, 2]
    run = read_run(folder)
    assert (run.finished, run.last(), len(run.sharpness)) == (True, 0.75, 2)
    plain = rewritten(write_run(tmp_path / "plain", 0.5, 0.75), lambda record: None)
    assert titles[0] not in Page(page_of([plain])[0]).titles
