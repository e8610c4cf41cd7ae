"""What a data-parallel step exchanges, read from the compiled step; the table of the records."""

import json
from collections import Counter

import jax
import pytest

from benchmarks.compiled import tables
from benchmarks.compiled.__main__ import CONFIGS, main
from benchmarks.compiled.collectives import Collective, collectives
from benchmarks.compiled.program import compile_step, measure
from tests.runs import ROOT
from vasso_jax.train import check, default_config
from vasso_jax.train.plan import DataSpec

SPEC = DataSpec(1000, 10, (16, 16, 3), (0.5,) * 3, (0.25,) * 3)


def plan_of(method, fsdp=1, **options):
    """Of WRN-10-1 on four devices."""
    config = default_config()
    config.update({"method": {"name": method}, "batch_size": 32, "fsdp": fsdp, **options})
    return check(config, devices=jax.devices()[:4])


def step_of(method, fsdp=1, **options):
    return compile_step(plan_of(method, fsdp, **options), SPEC)


@pytest.fixture(scope="module")
def variables():
    """Shapes of the parameters and BatchNorm statistics."""
    state = plan_of("none").program(SPEC).abstract_state
    return {"params": state.params, "batch_stats": state.batch_stats}


@pytest.fixture(scope="module")
def sgd():
    return step_of("none")


@pytest.fixture(scope="module")
def vasso():
    return step_of("vasso")


def exchanged(step):
    """How many arrays of which size are summed over the devices; nothing else must be exchanged."""
    found = collectives(step.compiled.as_text())
    assert {each.kind for each in found} == {"all-reduce"}
    return Counter(size for each in found for _, size in each.arrays)


@pytest.mark.slow
def test_a_pass_sums_each_gradient_and_the_batch_statistics_once_and_no_norm(sgd, vasso, variables):
    gradients = [x.size for x in jax.tree.leaves(variables["params"])]
    # A layer's mean and variance; what reaches them in the backward pass follows from the sums
    # that are the gradients of its scale and bias.
    statistics = [x.size for x in jax.tree.leaves(variables["batch_stats"])]
    reported = [1, 1, 1]  # loss, top-1, top-5, of the clean pass
    assert len(gradients) == 25
    assert exchanged(sgd) == Counter(gradients + statistics + reported)
    of_perturbed_pass = [1]  # its loss
    expected = 2 * (gradients + statistics) + reported + of_perturbed_pass
    assert exchanged(vasso) == Counter(expected)


@pytest.mark.slow
def test_vasso_costs_two_of_sgds_steps_and_one_copy_of_the_parameters(sgd, vasso, variables):
    one, two = measure(sgd), measure(vasso)
    assert two["flops"] / one["flops"] == pytest.approx(2, rel=0.01)
    copy = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(variables["params"]))
    for part in ("arguments", "outputs_in_arguments"):
        more = two["memory"][part] - one["memory"][part]
        assert copy <= more < copy + 256  # and some scalars


@pytest.mark.slow
def test_statistics_of_both_passes_need_no_further_convolution(vasso):
    both = step_of("vasso", batch_stats="both")
    count = [step.compiled.as_text().count(" convolution(") for step in (vasso, both)]
    assert count[0] == count[1] > 0
    assert measure(both)["flops"] == pytest.approx(measure(vasso)["flops"], rel=0.01)


@pytest.mark.slow
def test_fsdp_gathers_the_parameters_for_each_pass_and_keeps_a_part(vasso, variables):
    whole, spread = measure(vasso), measure(step_of("vasso", fsdp=4))
    kernels = [x.size for x in jax.tree.leaves(variables["params"]) if x.size >= 1024]
    gathered = spread["collectives"]["all-gather"]
    assert gathered["arrays"] == 2 * len(kernels)
    assert gathered["bytes"] == 2 * 4 * sum(kernels)
    # w, momentum and average, three quarters of each.
    saved = whole["memory"]["arguments"] - spread["memory"]["arguments"]
    assert saved == 3 * 4 * sum(kernels) * 3 // 4
    assert spread["flops"] == pytest.approx(whole["flops"], rel=0.01)


@pytest.mark.parametrize(
    ("setting", "instead"),
    [
        ("fsdp=2", "give --fsdp"),
        ("batch_size=64", "give --per_device"),
        ("model.dtype=float32", "the arithmetic is bfloat16"),
        ("deterministic=True", "which algorithms it takes"),
        ("model.name=wrn10_1", "give --models"),
        ("method.name=sam", "give --methods"),
        ("data.name=digits", "a network has its data set"),
    ],
)
def test_a_setting_that_cannot_be_measured_is_refused(setting, instead, monkeypatch, capsys):
    command = ["compiled", "--topologies", "h100:1", "--settings", setting]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit):
        main()
    assert f"is not possible: {instead}" in capsys.readouterr().err


def test_a_setting_given_twice_is_refused(monkeypatch, capsys):
    twice = ["microbatches=2", "microbatches=1"]
    monkeypatch.setattr("sys.argv", ["compiled", "--topologies", "h100:1", "--settings", *twice])
    with pytest.raises(SystemExit):
        main()
    assert "--settings gives microbatches twice" in capsys.readouterr().err


@pytest.mark.slow
def test_microbatches_have_the_flops_of_the_whole_batch(sgd):
    assert step_of("none", microbatches=2).flops == sgd.flops


PROGRAM = """HloModule jit_step, entry_computation_layout={(f32[8]{0})->f32[8]{0}}

%add.1 (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%all-reduce-scatter.2 (a: bf16[64,8]) -> bf16[16,8] {
  %all-reduce.9 = bf16[64,8]{1,0:T(8,128)(2,1)} all-reduce(%a), channel_id=1, to_apply=%add.1
  ROOT %part = bf16[16,8]{1,0} dynamic-slice(%all-reduce.9, %i, %j)
}

%all-reduce-scatter.3 (a: bf16[64,8]) -> bf16[16,8] {
  %all-reduce.8 = bf16[64,8]{1,0:T(8,128)(2,1)} all-reduce(%a), channel_id=1, to_apply=%add.1
}

%fused_computation.4 (p: f32[4,8], q: s8[3]) -> (f32[16,8], s8[3]) {
  %all-gather.1 = f32[16,8]{1,0:T(8,128)S(1)} all-gather(%p), channel_id=6, dimensions={0}
}

%fused_computation.5 (p: f32[4,8]) -> f32[16,8] {
  %all-gather.2 = f32[16,8]{1,0:T(8,128)} all-gather(%p), channel_id=6, dimensions={0}
}

ENTRY %main.7_spmd (p0: f32[8]) -> f32[8] {
  %all-reduce.5 = (f32[5,8]{1,0}, pred[]{:T(128)}, /*index=2*/u32[]) all-reduce(%x, %y, %z)
  %ar = f32[7]{0} all-reduce-start(%x), channel_id=3
  %ar-done = f32[7]{0} all-reduce-done(%ar)
  %ar2 = ((f32[6]{0}), f32[6]{0}) all-reduce-start(%x), channel_id=7
  %ag = ((f32[2]{0}, bf16[3]{0}), (f32[8]{0}, bf16[12]{0})) all-gather-start(%x, %y), channel_id=4
  %cp = (f8e4m3fn[9]{0}, f8e4m3fn[9]{0}, u32[], u32[]) collective-permute-start(%x), channel_id=5
  %aa = (f32[2,3]{1,0}, f32[2,3]{1,0}) all-to-all(%x, %y), channel_id=8
  %f = f32[8]{0} fusion(%x), calls=%fused_computation.4, metadata={op_name="all-reduce(x)"}
}
"""


def test_the_parser_reads_every_form():
    expected = [
        (Collective("reduce-scatter", (("bf16", 512),)), 1024),
        (Collective("reduce-scatter", (("bf16", 512),)), 1024),
        (Collective("all-gather", (("f32", 128),)), 512),
        (Collective("all-reduce", (("f32", 40), ("pred", 1), ("u32", 1))), 165),
        (Collective("all-reduce", (("f32", 7),)), 28),
        (Collective("all-reduce", (("f32", 6),)), 24),
        (Collective("all-gather", (("f32", 8), ("bf16", 12))), 56),
        (Collective("collective-permute", (("f8e4m3fn", 9),)), 9),
        (Collective("all-to-all", (("f32", 6), ("f32", 6))), 48),
    ]
    found = collectives(PROGRAM)
    assert [(each, each.bytes) for each in found] == expected
    with pytest.raises(ValueError, match="reduce-scatter"):
        collectives(PROGRAM.replace("all-to-all(", "reduce-scatter("))


@pytest.mark.parametrize(("record", "page"), [("pod", "scaling"), ("h100", "speed")])
def test_the_table_on_the_page_is_that_of_the_records(record, page):
    records = json.loads((ROOT / f"benchmarks/compiled/results/{record}.json").read_text())
    table = tables.markdown(records, list(CONFIGS))
    assert table in (ROOT / f"docs/{page}.md").read_text()


def test_the_figures_of_rematerialisation_are_those_of_the_records():
    folder = ROOT / "benchmarks/compiled/results"
    plain, remat = (
        {
            (r["model"], r["method"]): r
            for r in json.loads((folder / name).read_text())
            if r["devices"] == 1
        }
        for name in ("h100.json", "h100_remat.json")
    )
    page = (ROOT / "docs/networks.md").read_text()
    for (model, method), record in remat.items():
        pair = (plain[model, method], record)
        cells = (
            [f"{r['memory']['temporaries'] / 1e6:.0f}" for r in pair],
            [f"{r['flops'] / 1e9:.0f}" for r in pair],
            [f"{1e3 * r['estimated_seconds']:.2f}" for r in pair],
        )
        row = " | ".join((f"`{model}`", method, *map("; ".join, cells)))
        assert f"| {row} |" in page


def test_the_figures_of_microbatches_are_those_of_the_records():
    folder = ROOT / "benchmarks/compiled/results"
    cells: dict[str, dict[str, str]] = {}
    for name in ("h100.json", "h100_microbatches.json"):
        for r in json.loads((folder / name).read_text()):
            if r["method"] == "vasso" and r["devices"] == 1:
                figures = (
                    f"{r['memory']['temporaries'] / 1e6:.0f}; {1e3 * r['estimated_seconds']:.1f}"
                )
                cells.setdefault(r["model"], {})[" ".join(r.get("settings", ()))] = figures
    page = (ROOT / "docs/training.md").read_text()
    rows = {model: found.values() for model, found in cells.items() if len(found) > 1}
    assert len(rows) == 3
    for model, found in rows.items():
        assert f"| `{model}` | {' | '.join(found)} |" in page
