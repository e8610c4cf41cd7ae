"""What docs/data.md says on the costs of augmentation, against the records."""

import json

from tests.runs import ROOT

PAGE = (ROOT / "docs/data.md").read_text()


def record(path):
    return json.loads((ROOT / "benchmarks" / path).read_text())


def test_the_table_is_that_of_the_records():
    sizes = [record(f"input/results/cpu_augmentation_{size}px.json")["rows"] for size in (32, 224)]
    for kind in sizes[0]:
        cells = [f"{1e3 * rows[kind]['median_s']:.1f}" for rows in sizes]
        assert f"| {kind} | {' | '.join(cells)} |" in PAGE


def test_the_figures_of_a_gpu_are_those_of_the_records():
    text = " ".join(PAGE.split())
    for ours in record("compiled/results/h100_augmentation.json"):
        case = {key: ours[key] for key in ("model", "method", "topology", "per_device")}
        (plain,) = (r for r in record("compiled/results/h100.json") if case.items() <= r.items())
        assert f"({plain['kernels']:,}" in text
        assert f"{ours['kernels'] - plain['kernels']} " in text
        after, before = (f"{1e3 * r['estimated_seconds']:.2f}" for r in (ours, plain))
        assert f"{after} ms instead of {before}" in text or f"{after} instead of {before}" in text
