"""What docs/sharpness.md says on the cost of a product, against the records."""

import json

import pytest

from tests.runs import ROOT

PAGE = " ".join((ROOT / "docs/sharpness.md").read_text().split())
NAMES = {
    "gradient again": "gradient again, to check the timing",
    "hessian": "`hessian`",
    "gauss_newton": "`gauss_newton`",
    "fisher": "`fisher`",
}


def record(model):
    return json.loads(
        (ROOT / f"benchmarks/curvature/results/cpu_curvature_{model}.json").read_text()
    )


@pytest.mark.parametrize("model", ["wrn10_1", "resnet18"])
def test_the_table_is_that_of_the_records(model):
    rows = record(model)["rows"]
    gradient = rows["gradient"]
    assert f"{gradient['memory_bytes'] / 1e6:.0f} MB" in PAGE
    for name, shown in NAMES.items():
        row = rows[name]
        spread = f"{row['ratio_min']:.2f}, {row['ratio_max']:.2f}"
        memory = f"{row['memory_bytes'] / gradient['memory_bytes']:.2f}"
        cells = f"{1 / row['median_s']:.2f} | {row['ratio']:.2f} | {spread} | {memory}"
        assert f"| {model} | {shown} | {cells} |" in PAGE


@pytest.mark.parametrize("model", ["wrn10_1", "resnet18"])
def test_a_product_costs_no_more_than_the_page_says(model):
    rows = record(model)["rows"]
    products = [rows[name] for name in ("hessian", "gauss_newton", "fisher")]
    assert all(1.5 < row["ratio"] < 2.5 for row in products)
    assert all(row["memory_bytes"] < 2 * rows["gradient"]["memory_bytes"] for row in products)
