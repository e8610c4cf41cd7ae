"""The kernels of a GPU's program: how they are counted, and how many the trainer's step has."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from benchmarks.compiled.kernels import (
    H100,
    Kernel,
    Limits,
    estimated_seconds,
    kernels,
    overlapped,
)
from benchmarks.compiled.topologies import devices
from tests.runs import ROOT

PROGRAM = """HloModule jit_step

%fused (p: f32[8]) -> f32[8] {
  %not_counted = f32[8]{0} copy(%p)
}

ENTRY %main.7 (p0: f32[4,8], p1: bf16[8]) -> f32[4,8] {
  %p0 = f32[4,8]{1,0} parameter(0)
  %p1 = bf16[8]{0} parameter(1), sharding={replicated}
  %conv = (bf16[16]{0}, u8[4]{0}) custom-call(%p1, %p1), custom_call_target="__cudnn$convForward"
  %get = bf16[16]{0} get-tuple-element(%conv), index=0
  %loop_fusion.1 = f32[4,8]{1,0} fusion(%p0, %get), metadata={op_name="jit(step)/jvp(Net)/add"}
  %input_reduce_fusion = f32[8]{0} fusion(%loop_fusion.1), metadata={op_name="jit(step)/sum"}
  %input_transpose_fusion = f32[8,4]{1,0} fusion(%p0), kind=kInput
  %gemm_fusion_dot = f32[4,4]{1,0} fusion(%p0, %input_transpose_fusion), kind=kCustom
  %copy.3 = f32[4,8]{1,0} copy(%p0)
  %wrapped_slice.2 = f32[2]{0} fusion(%p0), kind=kLoop
  %all-gather-start = (f32[8]{0}, f32[32]{0}) all-gather-start(%input_reduce_fusion), channel_id=1
  %all-gather-done = f32[32]{0} all-gather-done(%all-gather-start)
  ROOT %out = f32[4,8]{1,0} bitcast(%copy.3)
}
"""


def test_every_kind_is_counted_once_with_what_it_reads_and_writes():
    matrix, vector = 4 * 32, 4 * 8
    assert kernels(PROGRAM, "Net") == [
        Kernel("convolution", 2 * 16 + 4 + 2 * 2 * 8, True),
        Kernel("elementwise", 2 * matrix + 2 * 16, True),
        Kernel("reduction", matrix + vector, False),
        Kernel("transpose", 2 * matrix, False),
        Kernel("matmul", 2 * matrix + 4 * 16, True),
        Kernel("copy", 2 * matrix, False),
        Kernel("elementwise", 2 * 4 * 2, False),
        Kernel("collective", vector + 4 * vector, False),
    ]


LOOP = """HloModule jit_step

%body (carry: (s32[], f32[8])) -> (s32[], f32[8]) {
  %carry = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%carry), index=1
  %loop_fusion.1 = f32[8]{0} fusion(%x), kind=kLoop
  ROOT %next = (s32[], f32[8]{0}) tuple(%i, %loop_fusion.1)
}

ENTRY %main.7 (p0: f32[8]) -> f32[8] {
  %p0 = f32[8]{0} parameter(0)
  %start = (s32[], f32[8]{0}) tuple(%i, %p0)
  %while.1 = (s32[], f32[8]{0}) while(%start), condition=%less, body=%body, backend_config=CONFIG
  ROOT %copy.3 = f32[8]{0} copy(%p0)
}
"""


def test_the_kernels_of_a_loop_count_as_often_as_they_run():
    program = LOOP.replace("CONFIG", '{"known_trip_count":{"n":"3"},"dynamic_variable":{}}')
    each = Kernel("elementwise", 2 * 32, False)
    assert kernels(program, "Net") == [each, each, each, Kernel("copy", 2 * 32, False)]
    with pytest.raises(ValueError, match="while cannot be counted"):
        kernels(LOOP.replace("CONFIG", "{}"), "Net")


def test_a_collective_is_overlapped_if_kernels_start_between_its_start_and_its_end():
    done = "  %all-gather-done = f32[32]{0} all-gather-done(%all-gather-start)\n"
    assert overlapped(PROGRAM) == 0
    kernel = "  %copy.9 = f32[8]{0} copy(%get)\n"
    assert overlapped(PROGRAM.replace(done, kernel + done)) == 4 * 32
    free = "  %bits = f32[8]{0} bitcast(%get)\n"
    assert overlapped(PROGRAM.replace(done, free + done + kernel)) == 0


@pytest.mark.parametrize("operation", ["conditional", "call"])
def test_what_runs_another_computation_is_refused(operation):
    with pytest.raises(ValueError, match=f"{operation} cannot be counted"):
        kernels(PROGRAM.replace("copy(%p0)", f"{operation}(%p0)"), "Net")


def test_the_estimate_is_that_of_bytes_arithmetic_or_launches():
    device = Limits(bytes_per_second=10.0, flops=100.0, launch=1.0)
    convolution, loop = Kernel("convolution", 50, True), Kernel("elementwise", 30, True)
    assert estimated_seconds([convolution], 100, device) == 5
    assert estimated_seconds([convolution], 700, device) == 7
    assert estimated_seconds([loop, loop._replace(bytes=1)], 0, device) == 3 + 1


@pytest.mark.parametrize("topology", ["h100", "h100:0", "h100:x", "a100:1", "4x4"])
def test_a_topology_that_nobody_has_is_refused(topology):
    with pytest.raises(ValueError, match=f"h100:N or a slice of TPUs.*got '{topology}'"):
        devices(topology)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda12_plugin") is None, reason="needs the compiler for GPUs"
)
def test_resnet18_on_an_h100(tmp_path):
    """About a minute. The compiler's version matters: measured with jax 0.12.0.1."""
    command = [sys.executable, "-m", "benchmarks.compiled", "--topologies", "h100:1"]
    command += ["--models", "resnet18", "--out", str(tmp_path / "cases.json")]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    sgd, vasso = json.loads((tmp_path / "cases.json").read_text())
    assert sgd["kernels"] <= 330
    assert vasso["kernels"] <= 2.02 * sgd["kernels"]
    assert sgd["bytes_accessed"] < 3.3e9
    assert vasso["bytes_accessed"] < 2.02 * sgd["bytes_accessed"]
    assert vasso["flops"] / sgd["flops"] == pytest.approx(2, rel=1e-3)
    copy = 4 * 11_173_962  # of the parameters, in float32
    assert vasso["memory"]["arguments"] - sgd["memory"]["arguments"] == pytest.approx(copy, 1e-3)
    # SGD reads w, its trace and the gradient, and writes the first two. VaSSO reads the clean
    # gradient, its average and w besides, and writes the average and w + eps.
    assert sgd["outside_the_network"]["bytes"] < 1.3 * 5 * copy
    assert vasso["outside_the_network"]["bytes"] < 1.3 * 10 * copy
    assert sgd["by_kind"]["transpose"]["kernels"] == 0
    assert sgd["estimated_seconds"] > sgd["flops"] / H100.flops
