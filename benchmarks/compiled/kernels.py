"""The kernels of a program compiled for a GPU, read from its text."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from benchmarks.compiled.collectives import array_bytes, of_line

# In the order in which they are tried on a name or a target.
_KINDS = {
    "convolution": r"cudnn\$conv",
    "matmul": r"cublas|gemm_fusion|cudnn\$f",
    "collective": r"all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute",
    "copy": r"^copy",
    "transpose": r"transpose",
    "reduction": r"reduce",
}
KINDS = (*_KINDS, "elementwise")

# Operations that start no kernel. What an asynchronous one does is counted where it starts.
_FREE = re.compile(
    r"parameter|constant|tuple|get-tuple-element|bitcast|after-all|partition-id|replica-id|\S+-done"
)
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) [^\n]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_OPERATION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)")
_NAME = re.compile(r"%([\w.-]+)")
_SLICE = re.compile(r"(wrapped_)?slice")
_CONTROL_FLOW = ("conditional", "call", "async-start")
_LOOP = re.compile(r"body=%?([\w.-]+).*\"known_trip_count\":\{\"n\":\"(\d+)\"")


class Kernel(NamedTuple):
    """One operation of a compiled program that reads and writes memory.

    Attributes:
        kind: one of KINDS.
        bytes: of its arguments and results together.
        of_network: whether it is a convolution, a matrix product, or carries the network's name.
    """

    kind: str
    bytes: int
    of_network: bool


def kernels(program: str, network: str) -> list[Kernel]:
    """The kernels of `compiled.as_text()`, in order; those of a loop as often as they run.

    Args:
        program: of a GPU.
        network: name of the class of the network, as it stands in the operations' scopes.

    Raises:
        ValueError: there is a loop or a conditional, whose kernels run a number of times that the
            text does not tell.
    """
    bodies = {match[1]: match[2] for match in _COMPUTATION.finditer(program)}
    (entry,) = re.findall(r"^ENTRY %?([\w.-]+)", program, re.MULTILINE)
    sizes: dict[str, int] = {}

    def of(computation: str) -> Iterator[Kernel]:
        for line in bodies[computation].splitlines():
            if not (match := _OPERATION.match(line)):
                continue
            name, shape, operation, rest = match.groups()
            sizes[name] = sum(array_bytes(shape))
            if operation == "while" and (loop := _LOOP.search(rest)):
                yield from int(loop[2]) * list(of(loop[1]))
            elif operation == "while" or operation in _CONTROL_FLOW:
                raise ValueError(f"the kernels of a program with a {operation} cannot be counted")
            elif not _FREE.fullmatch(operation):
                yield _kernel(line, match, sizes, network)

    return list(of(entry))


def overlapped(program: str) -> int:
    """Bytes of the collectives between whose start and end other kernels are started.

    Args:
        program: `compiled.as_text()`. Collectives within a loop do not count.
    """
    waiting: dict[str, list[int]] = {}  # name of the start -> its bytes, and kernels since
    total = 0
    for line in program[program.index("\nENTRY") :].splitlines()[1:]:
        if not (match := _OPERATION.match(line)):
            continue
        name, _, operation, rest = match.groups()
        if operation.endswith("-start") and (collective := of_line(line)):
            waiting[name] = [collective.bytes, 0]
        elif operation.endswith("-done") and (start := _NAME.search(rest)) and start[1] in waiting:
            size, beside = waiting.pop(start[1])
            total += size if beside else 0
        elif not _FREE.fullmatch(operation):
            for each in waiting.values():
                each[1] += 1
    return total


def _kernel(line: str, match: re.Match[str], sizes: Mapping[str, int], network: str) -> Kernel:
    name, _, operation, rest = match.groups()
    # The result of an operation that only starts holds its arguments, or takes their place.
    started = operation.endswith("-start")
    arguments = [] if started else _NAME.findall(rest.split("), ")[0])
    read = sum(sizes.get(argument, 0) for argument in arguments)
    if _SLICE.match(name):
        read = sizes[name]  # and not all of what it is taken from
    target = re.search(r'custom_call_target="([^"]+)"', line)
    kind = _kind(target[1] if target else f"{name} {operation}")
    scope = re.search(r'op_name="([^"]*)"', line)
    of_network = kind in ("convolution", "matmul") or bool(scope and network in scope[1])
    return Kernel(kind, read + sizes[name], of_network)


def _kind(name: str) -> str:
    for kind, pattern in _KINDS.items():
        if re.search(pattern, name):
            return kind
    return "elementwise"


def estimated_seconds(found: list[Kernel], flops: float, device: "Limits") -> float:
    """What these kernels take one after the other, by a roofline.

    Convolutions and matrix products together take the time of their arithmetic or of their bytes,
    every other kernel that of its bytes, but none less than `launch`. Caches can make it less,
    algorithms that do not reach the limits make it more.

    Args:
        found: of `kernels`.
        flops: of the convolutions and matrix products.
        device: what it runs on.
    """
    large = [k for k in found if k.kind in ("convolution", "matmul")]
    others = [k for k in found if k.kind not in ("convolution", "matmul")]
    moved = sum(k.bytes for k in large) / device.bytes_per_second
    arithmetic = max(flops / device.flops, moved, len(large) * device.launch)
    return arithmetic + math.fsum(
        max(k.bytes / device.bytes_per_second, device.launch) for k in others
    )


class Limits(NamedTuple):
    """What a device cannot exceed.

    Attributes:
        bytes_per_second: to and from memory.
        flops: per second, dense, in bfloat16.
        launch: seconds from kernel to kernel at least.
    """

    bytes_per_second: float
    flops: float
    launch: float


# Data sheet of the H100 SXM. The launch is an assumption: on an H200, small kernels in a CUDA graph
# took 1.4 us and more.
H100 = Limits(bytes_per_second=3.35e12, flops=989e12, launch=1.4e-6)
