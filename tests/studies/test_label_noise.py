"""The label-noise study in small: it writes what it says, and goes on where it stopped."""

import json

import pytest

from studies.label_noise import report, study
from studies.label_noise.__main__ import HERE, main
from tests.studies.pictures import assert_alike
from tests.studies.small import use_small_networks
from vasso_jax.runs import Run


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Arguments of two runs of one epoch."""
    methods = {name: study.METHODS[name] for name in ("SGD", "VaSSO 0.4")}
    monkeypatch.setattr(study, "METHODS", methods)
    use_small_networks(monkeypatch, study)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    tuning = tmp_path / "tuning.json"
    tuning.write_text(json.dumps({"rho": {"VaSSO 0.4": 0.1}}))
    return [
        *("--seeds=1", "--epochs=1", "--rates", "0.5", f"--runs={tmp_path / 'runs'}"),
        *(f"--results={tmp_path}", f"--figure={tmp_path / 'figure.png'}"),
    ]


@pytest.mark.weekly
# Two processes, each of which imports JAX and compiles a step of its own, of a small network.
def test_it_writes_its_results_and_does_not_train_twice(small, tmp_path, capsys):
    main(small)
    assert "2 runs, 0 of them finished before" in capsys.readouterr().out
    path = tmp_path / "study.json"
    first = json.loads(path.read_text())
    assert [(r["method"], r["label_noise_rate"], r["seed"]) for r in first["runs"]] == [
        ("SGD", 0.5, 0),
        ("VaSSO 0.4", 0.5, 0),
    ]
    facts = json.loads((tmp_path / "runs/study/SGD_noise0.5_seed0/dataset.json").read_text())
    assert facts["label_noise"]["changed_labels"] == 719
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")

    path.unlink()
    main(small)
    assert "2 runs, 2 of them finished before" in capsys.readouterr().out
    assert json.loads(path.read_text()) == first


def test_radii_are_chosen_first(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main([f"--results={tmp_path}"])
    assert end.value.code == 2
    assert "choose the radii first, with --tune" in capsys.readouterr().err


def test_differences_are_paired_by_seed(tmp_path):
    accuracies = {"SGD": (0.5, 0.75), "SAM": (0.25, 0.5), "VaSSO 0.4": (0.5, 1.0)}
    runs = {
        (method, 0.5, seed): Run(
            tmp_path, {"epochs": 1}, {}, [{"epoch": 1, "split": "test", "top1": top1, "loss": 1.0}]
        )
        for method, values in accuracies.items()
        for seed, top1 in enumerate(values)
    }
    content = report.summarise(runs)
    sam, sgd = content["paired_differences"]
    # 0.25 and 0.5: mean 0.375, s = 0.25 / sqrt(2), t(0.975, 1) = 12.7062.
    assert (sam["minus"], sam["mean"], sam["n"]) == ("SAM", 0.375, 2)
    assert sam["ci95"] == pytest.approx([0.375 - 12.7062 / 8, 0.375 + 12.7062 / 8], rel=1e-5)
    assert (sgd["minus"], sgd["mean"]) == ("SGD", 0.125)
    assert "| VaSSO 0.4 - SAM | +37.50 [-121.33, +196.33] |" in report.as_markdown(content)


def test_the_numbers_that_are_kept_give_the_figure_that_is_kept(tmp_path, capsys):
    figure = tmp_path / "figure.png"
    main(["--redraw", f"--figure={figure}"])
    assert_alike(figure, HERE / "results/figure.png")
    assert "| +3.40 [-1.76, +8.56] |" in capsys.readouterr().out  # as README.md has it


def test_the_radii_that_are_kept_are_those_of_the_study():
    tuning, found = (
        json.loads((HERE / "results" / name).read_text()) for name in ("tuning.json", "study.json")
    )
    assert {"SGD": None, **tuning["rho"]} == found["settings"]["rho"]
    assert found["settings"]["rho"].keys() == study.METHODS.keys()
