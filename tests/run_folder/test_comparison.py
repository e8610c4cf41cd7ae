"""Groups of runs, and their statistics against numbers worked out by hand."""

import dataclasses
import math
import pathlib

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tests.run_folder.written import SAM, SETTINGS, VASSO, write_run, write_two_methods
from vasso_jax.runs import (
    Run,
    budgets,
    differences_to,
    estimate,
    flatten,
    group_runs,
    paired_difference,
    read_run,
    seeds_needed,
    tables,
)


@pytest.fixture
def two_methods(tmp_path):
    return write_two_methods(tmp_path)


def test_groups_are_named_by_where_they_differ(two_methods):
    groups = group_runs(map(read_run, two_methods))
    assert [group.name for group in groups] == [
        "vasso theta=0.4",
        "sam",
    ]
    assert [len(group.runs) for group in groups] == [3, 2]


def names(folder, *runs):
    """Of the groups of one finished run for each dict of settings."""
    paths = [folder / str(i) for i in range(len(runs))]
    for path, fields in zip(paths, runs, strict=True):
        write_run(path, 0.5, 0.5, **fields)
    return [group.name for group in group_runs(map(read_run, paths))]


def test_fields_that_only_another_choice_has_are_not_named(tmp_path):
    # Momentum and accumulator_dtype come with the name of their section.
    sgd, adamw = SETTINGS["base"], {"name": "adamw", "lr": 0.05, "b1": 0.9}
    assert names(tmp_path, {}, {"method": SAM, "base": adamw}) == [
        "vasso theta=0.4 base.name=sgd",
        "sam base.name=adamw",
    ]
    # But they are where they tell two apart that have them.
    (tmp_path / "more").mkdir()
    other = sgd | {"momentum": 0.8}
    assert names(tmp_path / "more", {}, {"base": other}, {"base": adamw}) == [
        "base.name=sgd base.momentum=0.9",
        "base.name=sgd base.momentum=0.8",
        "base.name=adamw",
    ]


def test_label_noise_is_another_group(tmp_path):
    noise = {"kind": "symmetric", "rate": 0.5, "seed": 0}
    assert names(tmp_path, {}, {"label_noise": noise}) == [
        "label_noise.kind unset label_noise.rate unset",
        "label_noise.kind=symmetric label_noise.rate=0.5",
    ]


choices = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from([VASSO, SAM, SAM | {"rho": 0.2}, VASSO | {"theta": 1}, {}]),
        "base": st.sampled_from([{"name": "sgd"}, {"lr": 0.1}, {"name": "adamw", "lr": 0.1}]),
        "label_noise": st.sampled_from(
            [{}, {"kind": "symmetric"}, {"kind": "symmetric", "rate": 1}]
        ),
        "model": st.sampled_from([{"name": "a", "dtype": None}, {"name": "a", "dtype": "b"}]),
        "epochs": st.sampled_from([1, 2]),
        "init_from": st.sampled_from([None, "", "x"]),
    },
)


@given(settings=st.lists(choices, max_size=6, unique_by=repr))
def test_no_two_groups_have_one_name(settings):
    tests = [{"step": 9, "epoch": 2, "split": "test", "top1": 0.5, "loss": 1.0, "seconds": 1.0}]
    runs = [
        Run(pathlib.Path(str(i)), flatten({"epochs": 2, "seed": i} | fields), {}, tests)
        for i, fields in enumerate(settings)
    ]
    groups = group_runs(runs)
    assert len({group.name for group in groups}) == len(groups)
    seeds = sorted(run.seeds for group in groups for run in group.runs)
    assert seeds == [(i,) for i in range(len(settings))]


def test_the_config_of_a_run_has_dotted_names(tmp_path):
    run = read_run(write_run(tmp_path / "run", 0.5, 0.75, 0.25, epochs=4, seed=3))
    assert run.config["method.rho"] == 0.1
    assert run.config["schedule.milestones"] == [1, 2]
    assert "format" not in run.config
    assert run.data == {"name": "digits", "train_images": 8}
    assert (run.seeds, run.epochs, run.finished) == ((3,), 4, False)
    assert (run.last(), run.best()) == (0.25, 0.75)


@pytest.mark.parametrize("epochs", [None, "2", True])
def test_a_run_without_a_number_of_epochs_is_refused(tmp_path, epochs):
    write_run(tmp_path / "run", 0.5, epochs=epochs)
    with pytest.raises(ValueError, match=r"config\.json has no epochs"):
        read_run(tmp_path / "run")


def test_a_row_has_the_means_and_deviations(two_methods):
    vasso, sam = map(tables.cells, group_runs(map(read_run, two_methods)))
    # Last epoch 50, 75, 100: deviations -25, 0, 25, so the variance is 1250 / 2. Best epoch 75, 75,
    # 100: mean 83.33, variance (8.33^2 + 8.33^2 + 16.67^2) / 2 = 208.3.
    assert vasso[1:] == (
        *("3", "2", "75.00 +- 25.00", "83.33 +- 14.43"),
        *("0.5000 +- 0.0000", "6.0 +- 0.0"),
    )
    assert sam[3] == "25.00 +- 0.00"


def test_one_run_has_no_deviation(tmp_path):
    (group,) = group_runs([read_run(write_run(tmp_path / "run", 0.5, 0.75))])
    assert group.name == "digits wrn10_1 vasso"
    assert tables.cells(group)[3] == "75.00"
    assert estimate([0.75]).std is None


def test_where_a_run_lies_makes_no_other_group(tmp_path):
    runs = [
        write_run(tmp_path / f"{i}", 0.5, 0.5, seed=i, data__dir=f"/{i}", tensorboard=bool(i))
        for i in (0, 1)
    ]
    assert len(group_runs(map(read_run, runs))) == 1
    # But the folder is the name of such a set.
    runs = [
        write_run(tmp_path / f"npz{i}", 0.5, 0.5, seed=i, data__dir=f"/{i}", data__name="npz")
        for i in (0, 1)
    ]
    assert [g.name for g in group_runs(map(read_run, runs))] == ["data.dir=/0", "data.dir=/1"]


def test_noise_drawn_with_each_seed_is_one_group(tmp_path):
    noise = {"kind": "symmetric", "rate": 0.5}
    runs = [
        write_run(tmp_path / f"{i}", 0.5, 0.5, seed=i, label_noise=noise | {"seed": i})
        for i in (0, 1)
    ]
    (group,) = group_runs(map(read_run, runs))
    # Of the run, the noise, the method and the validation split.
    assert [run.seeds for run in group.runs] == [(0,), (1, 1, 1, 0)]


def test_a_paired_difference_and_its_interval():
    # Differences 1, 2, 3: s = 1, and t(0.975, 2) = 4.302653 in every table.
    result = paired_difference({0: 2, 1: 4, 2: 6, 9: 100}, {0: 1, 1: 2, 2: 3, 8: 0})
    assert (result.mean, result.n) == (2, 3)
    assert result.high - 2 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert result.low + result.high == pytest.approx(4)
    with pytest.raises(ValueError, match="two or more seeds in both, there are 1"):
        paired_difference({0: 1.0, 1: 2.0}, {0: 1.0})


def test_a_record_that_is_being_written_does_not_count_yet(tmp_path):
    run = write_run(tmp_path / "run", 0.5, 0.75)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "epo')
    assert read_run(run).last() == 0.75


def test_names_that_would_be_equal_are_told_in_full(tmp_path):
    first = {"model": {"name": "a"}, "method": {"name": "b c"}}
    second = {"model": {"name": "a b"}, "method": {"name": "c"}}
    assert names(tmp_path, first, second) == [
        "model.name=a method.name=b c",
        "model.name=a b method.name=c",
    ]


def test_differences_are_those_of_pairs(two_methods):
    vasso, sam = group_runs(map(read_run, two_methods))
    found = differences_to(sam, [vasso, sam], lambda run: run.last())
    # Seeds 0 and 1 are in both: 0.5 - 0.25 and 0.75 - 0.25.
    assert found.keys() == {vasso.name}
    assert (found[vasso.name].mean, found[vasso.name].n) == (0.375, 2)
    assert found[vasso.name].std == pytest.approx(0.25 / 2**0.5)
    one = dataclasses.replace(sam, runs=sam.runs[:1])
    assert differences_to(one, [vasso], lambda run: run.last()) == {}


def test_unequal_budgets_are_told(tmp_path):
    paths = [
        write_run(tmp_path / "a", 0.5, 0.5),
        write_run(tmp_path / "b", 0.5, 0.5, method=SAM),
        write_run(tmp_path / "c", 0.5, 0.5, method=SAM, batch_size=64),
    ]
    loaded = list(map(read_run, paths))
    assert budgets(group_runs(loaded[:2])) == []
    assert budgets(group_runs(loaded)) == [
        "2 epochs of 8 images, batch 128",
        "2 epochs of 8 images, batch 64",
    ]


def test_any_metric_of_the_test(two_methods):
    run = read_run(two_methods[0])
    assert (run.last("loss"), run.best("loss")) == (0.5, 0.5)
    losses = [{**test, "loss": loss} for test, loss in zip(run.tests, (0.25, 0.75), strict=True)]
    changed = dataclasses.replace(run, records=losses)
    assert (changed.last("loss"), changed.best("loss")) == (0.75, 0.25)
    with pytest.raises(ValueError, match=r"has no test top5, only top1, loss|only loss, top1"):
        run.last("top5")
    with pytest.raises(ValueError, match="has no test seconds"):
        run.last("seconds")


@given(st.floats(1e-3, 10), st.floats(1e-3, 10))
def test_the_seeds_needed_are_the_fewest(std, difference):
    def margin(n):
        return float(scipy.stats.t.ppf(0.975, n - 1)) * std / n**0.5

    needed = seeds_needed(std, difference)
    if needed is None:
        assert margin(10_000) > difference
    else:
        assert margin(needed) <= difference * (1 + 1e-9)
        assert needed == 2 or margin(needed - 1) > difference * (1 - 1e-9)
