"""Settings that are chosen on the validation split."""

import dataclasses

import pytest

from tests.run_folder.written import SAM, VASSO, write_run, write_validated
from vasso_jax.runs import candidates, choose, group_runs, read_run, tables

# By method and rho: for each seed the validation's top-1 by epoch, and the test's two figures. The
# best settings on the test, and those of the best last validation, are others than the chosen ones.
RUNS = {
    ("sam", 0.05): [((0.5, 0.5), 0.75, 0.75), ((0.5, 0.5), 0.75, 1.0)],
    ("sam", 0.1): [((0.75, 0.25), 0.5, 0.25), ((0.5, 0.25), 0.25, 0.25)],
    ("vasso", 0.1): [((0.25, 0.25), 0.5, 0.5), ((0.25, 0.25), 0.5, 0.5)],
    ("vasso", 0.2): [((0.25, 0.25), 1.0, 1.0), ((0.25, 0.25), 1.0, 1.0)],
}


@pytest.fixture
def groups(tmp_path):
    folders = [
        write_validated(
            tmp_path / f"{method}{rho}{seed}",
            *top1s,
            best=best,
            last=last,
            method={**{"sam": SAM, "vasso": VASSO}[method], "rho": rho},
            seed=seed,
            loss=rho,
        )
        for (method, rho), runs in RUNS.items()
        for seed, (top1s, best, last) in enumerate(runs)
    ]
    return group_runs(map(read_run, folders))


def test_the_best_mean_over_seeds_of_the_best_validation_is_chosen(groups):
    sam, vasso = choose(groups, ["method.rho", "base.b1"])
    assert (sam.method, sam.fields, sam.group) == ("sam", {"method.rho": 0.1}, groups[1])
    # Of equals, the first.
    assert (vasso.method, vasso.fields, vasso.group) == ("vasso", {"method.rho": 0.1}, groups[2])


def test_what_makes_another_task_is_not_chosen(groups):
    def noisy(group, rate):
        runs = [
            dataclasses.replace(run, config={**run.config, "label_noise.rate": rate})
            for run in group.runs
        ]
        return dataclasses.replace(group, runs=runs)

    tasks = [noisy(groups[0], 0.0), noisy(groups[1], 0.4), noisy(groups[0], 0.4)]
    swept = ["label_noise.rate", "method.rho"]
    assert candidates(tasks, swept) == [tasks[:1], tasks[1:]]
    assert [choice.fields for choice in choose(tasks, swept)] == [
        {"label_noise.rate": 0.0, "method.rho": 0.05},
        {"label_noise.rate": 0.4, "method.rho": 0.1},
    ]


def test_of_losses_the_least_is_chosen(groups):
    assert [choice.group for choice in choose(groups, [], "loss")] == [groups[0], groups[2]]


def test_the_table_has_the_test_of_what_was_chosen(groups):
    assert tables.choice_header("top1")[2:5] == (
        "validation top1, %",
        "test top1, %: best checkpoint",
        "last epoch",
    )
    # 75 and 50, 50 and 25: the deviation is 25 / sqrt(2).
    assert tables.choice_cells(choose(groups, ["method.rho"])[0]) == (
        "sam",
        "method.rho=0.1",
        "62.50 +- 17.68",
        "37.50 +- 17.68",
        "25.00 +- 0.00",
        "2",
    )


def test_without_validation_nothing_can_be_chosen(tmp_path):
    run = read_run(write_run(tmp_path / "run", 0.5, 0.5))
    with pytest.raises(ValueError, match="has no validation"):
        choose(group_runs([run]), [])
