"""The study of compute: how it counts, what it compares, and the numbers that are kept."""

import json

import jax
import jax.numpy as jnp
import optax
import pytest

from studies.compute import methods, report, study
from studies.compute.__main__ import HERE, main
from tests.studies.pictures import assert_alike
from tests.studies.small import use_small_networks
from vasso_jax import data
from vasso_jax.optim import value_and_update
from vasso_jax.runs import Run
from vasso_jax.train.config.optimizer import METHODS
from vasso_jax.train.config.window import epoch_window


@pytest.mark.weekly
# Two processes, each of which imports JAX and compiles a step of its own, of a small network.
def test_it_writes_its_results_and_does_not_train_twice(monkeypatch, tmp_path, capsys):
    chosen = {name: methods.METHODS[name] for name in ("SGD", "VaSSO, late window")}
    monkeypatch.setattr(study, "METHODS", chosen)
    use_small_networks(monkeypatch, study)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    (tmp_path / "tuning.json").write_text(json.dumps({"rho": {"Momentum-SAM": 0.1}}))
    arguments = [
        *("--seeds=1", "--epochs", "2", "3", "--most=3", f"--runs={tmp_path / 'runs'}"),
        *(f"--results={tmp_path}", f"--figure={tmp_path / 'figure.png'}"),
    ]
    main(arguments)
    assert "3 runs, 0 of them finished before" in capsys.readouterr().out
    first = json.loads((tmp_path / "study.json").read_text())
    assert [(r["method"], r["epochs"], r["evaluations"]) for r in first["runs"]] == [
        ("SGD", 2, 22),
        ("VaSSO, late window", 2, 26),
        ("SGD", 3, 33),
    ]
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    main(arguments)
    assert "3 runs, 3 of them finished before" in capsys.readouterr().out
    assert json.loads((tmp_path / "study.json").read_text()) == first


@pytest.mark.slow
@pytest.mark.parametrize("method", methods.METHODS)
def test_evaluations_are_those_that_happen(method):
    epochs, steps_per_epoch = 6, 4
    settings = dict(methods.METHODS[method])
    recipe = METHODS[settings.pop("name")]
    if section := methods.window(method, epochs):
        settings["active"] = epoch_window(epochs, steps_per_epoch, **section)
    happened = []

    def loss(w):
        jax.debug.callback(lambda: happened.append(1))
        return jnp.sum(w**2)

    tx, w = recipe(optax.sgd(0.1, momentum=0.9), **settings), jnp.ones(2)
    step, state = jax.jit(value_and_update(loss, tx)), tx.init(w)
    for _ in range(epochs * steps_per_epoch):
        _, updates, state = step(w, state)
        w = optax.apply_updates(w, updates)
    jax.effects_barrier()
    assert methods.evaluations(method, epochs, steps_per_epoch) == len(happened)


def test_the_steps_of_an_epoch_are_those_of_the_digits():
    assert data.load("digits").num_train // 128 == methods.STEPS_PER_EPOCH


def run_of(epochs, top1):
    record = {"epoch": epochs, "split": "test", "top1": top1, "loss": 1.0, "seconds": 9.0}
    return Run(HERE, {"epochs": epochs}, {}, [{**record, "epoch": 1, "top1": 1.0}, record])


def test_baselines_have_as_many_evaluations_or_epochs():
    accuracies = {
        ("SGD", 1): (0.25, 0.5),
        ("SGD", 2): (0.5, 0.75),
        ("VaSSO", 1): (0.5, 1.0),
        ("VaSSO, descent", 1): (0.5, 0.5),
    }
    content = report.summarise(
        {
            (method, epochs, seed): run_of(epochs, top1)
            for (method, epochs), values in accuracies.items()
            for seed, top1 in enumerate(values)
        }
    )
    found = {
        (row["method"], row["minus"], row["minus_epochs"], row["as_many"]): row["mean"]
        for row in content["paired_differences"]
    }
    assert found == {
        ("VaSSO", "SGD", 2, "evaluations"): 0.125,
        ("VaSSO", "SGD", 1, "epochs"): 0.375,
        ("VaSSO, descent", "SGD", 1, "evaluations"): 0.125,
        ("VaSSO, descent", "VaSSO", 1, "epochs"): -0.25,
    }
    # The last epoch, not the best: 0.25 and 0.5, s = 0.25 / sqrt(2), t(0.975, 1) = 12.7062.
    error = content["summary"][0]["test_error"]
    assert error["mean"] == 0.625
    assert error["ci95"] == pytest.approx([0.625 - 12.7062 / 8, 0.625 + 12.7062 / 8], rel=1e-5)
    assert content["summary"][2]["evaluations_per_image"] == 2
    text = report.as_markdown(content)
    assert "| VaSSO - SGD, as many evaluations | +12.50 [-146.33, +171.33] |" in text


def test_one_seed_has_no_interval(tmp_path):
    content = report.summarise({("SGD", 1, 0): run_of(1, 0.75), ("SAM", 1, 0): run_of(1, 0.5)})
    assert not content["paired_differences"]
    assert "| SAM | 2.00 | 50.00 |" in report.as_markdown(content)
    report.plot(content["summary"], tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_the_radius_is_chosen_first(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main([f"--results={tmp_path}"])
    assert end.value.code == 2
    assert "choose the radius first, with --tune" in capsys.readouterr().err


def test_the_numbers_that_are_kept_give_the_figure_that_is_kept(tmp_path, capsys):
    figure = tmp_path / "figure.png"
    main(["--redraw", f"--figure={figure}"])
    assert_alike(figure, HERE / "results/figure.png")
    printed = capsys.readouterr().out
    page = (HERE.parents[1] / "docs/results.md").read_text()
    for line in printed.splitlines():
        assert line in page  # the tables of the page are those of the numbers


def test_the_radius_that_is_kept_is_that_of_the_study():
    tuning, found = (
        json.loads((HERE / "results" / name).read_text()) for name in ("tuning.json", "study.json")
    )
    assert tuning["rho"]["Momentum-SAM"] == found["settings"]["rho"]["Momentum-SAM"]
    assert found["settings"]["rho"].keys() == methods.METHODS.keys()
    assert {(row["method"], row["seed"]) for row in found["runs"]} == {
        (method, seed) for method in methods.METHODS for seed in range(5)
    }
