"""The flatness study: which radius is tuned, and what its tables and its figure are made of."""

import argparse
import itertools
import json
import math

import pytest
from matplotlib.figure import Figure

from studies.flatness import report, study
from studies.flatness.__main__ import HERE, main
from tests import tiny_cifar
from tests.studies.pictures import assert_alike
from tests.studies.small import use_small_networks
from vasso_jax.train import check


@pytest.fixture
def rows():
    """Three seeds of each method and radius; SAM's lambda_1 is half of SGD's at every seed."""
    found = []
    for seed, method in itertools.product(range(3), study.METHODS):
        for i, rho in enumerate(study.RADII[method]):
            figures = dict.fromkeys(report.MEASURES, 1.0 + seed + 0.1 * i)
            figures["lambda_1"] = (1 + seed) * (0.5 if method == "SAM" else 1)
            accuracy = 0.9 + 0.01 * seed + 0.001 * i
            found.append(
                {
                    "method": method,
                    "rho": rho,
                    "seed": seed,
                    "test_top1": accuracy,
                    # The second and the third radius are equally good on the validation split.
                    "validation_top1": 0.8 if i in (1, 2) else 0.7,
                    **figures,
                }
            )
    return found


def test_tuned_is_the_best_on_the_validation_split_and_of_equals_the_smallest(rows):
    second = {method: radii[1:2] for method, radii in study.RADII.items()}
    assert report.tuned(rows) == {method: (*radii, None)[0] for method, radii in second.items()}


def test_differences_are_ratios_at_equal_seeds(rows):
    text = report.as_markdown(rows)
    (line,) = (
        line
        for line in text.split("ratio at equal radii")[1].split("tuned")[0].splitlines()
        if line.startswith("| SAM / SGD")
    )
    accuracy, ratio = (cell.strip() for cell in line.split("|")[2:4])
    assert accuracy == "+0.10 [+0.10, +0.10]"
    assert ratio == "0.50 [0.50, 0.50]"
    assert "| all | 63 |" in text


def test_the_figure_has_a_panel_for_each_measure(rows, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    report.plot(rows, tmp_path / "figure.png")
    panels = figures[0].axes
    assert [axes.get_title() for axes in panels[1:7]] == [*report.MEASURES.values()]
    lines = dict(zip(*reversed(panels[1].get_legend_handles_labels()), strict=True))
    assert set(lines) == set(study.METHODS)
    assert math.isclose(lines["SAM"].lines[0].get_ydata()[0], 1.0)
    assert math.isclose(lines["SGD"].get_ydata()[0], 2.0)


def test_every_run_of_the_protocol_can_be_planned(tmp_path):
    options = argparse.Namespace(runs=tmp_path, seeds=1, epochs=30, data="digits")
    planned = study.planned(options)
    assert len(planned) == 21
    for (_, rho, _), run in planned.items():
        settings = check(run.config).settings
        assert settings["method"].get("rho") == rho
        assert settings["validation"]["share"] == 0.15


@pytest.mark.parametrize(
    ("data", "title", "lines"),
    [
        ("digits", "Does VaSSO end in flatter minima?", 8 + 8 + 8 + 6),
        ("cifar10", "The same with some images of CIFAR-10", 8 + 8),
    ],
)
def test_the_numbers_that_are_kept_give_the_tables_that_are_kept(
    data, title, lines, tmp_path, capsys
):
    (tmp_path / f"{data}.json").write_bytes((HERE / f"results/{data}.json").read_bytes())
    main(["--redraw", f"--data={data}", f"--results={tmp_path}"])
    if data == "digits":
        assert_alike(tmp_path / "figure.png", HERE / "results/figure.png")
    page = (HERE.parents[1] / "docs/results.md").read_text()
    _, text = page.split(f"# {title}\n")
    section = text.split("\n##")[0]
    printed = capsys.readouterr().out.splitlines()
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) == lines
    assert set(rows) <= set(printed)


@pytest.mark.weekly
@pytest.mark.parametrize("data", study.PROTOCOLS)
def test_it_trains_and_measures_and_does_neither_again(data, tmp_path, monkeypatch, capsys):
    use_small_networks(monkeypatch, study)
    monkeypatch.setattr(study, "METHODS", {"SAM": study.METHODS["SAM"]})
    protocol = study.PROTOCOLS[data]._replace(radii={"SAM": (0.1,)})
    monkeypatch.setitem(study.PROTOCOLS, data, protocol)
    if data == "cifar10":
        tiny_cifar.prepare(tmp_path, train=130, test=20)
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    folders = [f"--runs={tmp_path}", f"--results={tmp_path}"]
    options = [f"--data={data}", "--seeds=2", "--epochs=1", *folders]
    main(options)
    table, *_ = capsys.readouterr().out.split("| SAM | 0.1 |")
    assert ("worst" in table) == (data == "digits")
    results = tmp_path / f"{data}.json"
    first = results.read_text()
    assert len(json.loads(first)["runs"]) == 2
    main(options)
    assert "2 runs, 2 of them finished before" in capsys.readouterr().out
    assert json.loads(results.read_text())["runs"] == json.loads(first)["runs"]
