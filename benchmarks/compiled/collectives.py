"""What a compiled program exchanges between devices, read from its text."""

import re
from typing import NamedTuple

_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
_COMPUTATION = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) .*\{$")
_COLLECTIVE = re.compile(rf" = (?P<result>\S.*?) (?P<kind>{_KINDS})(?P<start>-start)?\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_CHANNEL = re.compile(r"channel_id=(\d+)")


class Collective(NamedTuple):
    """One operation of a compiled program.

    Attributes:
        kind: all-reduce, all-gather, reduce-scatter, all-to-all or collective-permute.
        arrays: (dtype, number of elements) of each array that it carries. These are whole arrays:
            before a reduce-scatter, after an all-gather. The compiler merges many collectives.
    """

    kind: str
    arrays: tuple[tuple[str, int], ...]

    @property
    def bytes(self) -> int:
        """The size of all its arrays."""
        return sum(_bytes(dtype) * size for dtype, size in self.arrays)


def collectives(program: str) -> list[Collective]:
    """The collectives of `compiled.as_text()`, in order.

    An asynchronous collective counts where it starts. XLA for TPUs has two peculiarities. A
    reduce-scatter is an all-reduce in a fusion named all-reduce-scatter. An asynchronous collective
    that is fused with several computations appears in each of them, with the same channel; it
    counts once.

    Raises:
        ValueError: there is a plain reduce-scatter, whose text has only the size of its result.
    """
    found, channels = [], set()
    entry, name = False, ""
    for line in program.splitlines():
        if not line.startswith(" "):
            if header := _COMPUTATION.match(line):
                entry, name = bool(header["entry"]), header["name"]
            continue
        each = of_line(line)
        if each is None:
            continue
        if each.kind == "reduce-scatter":
            raise ValueError("the sizes of a reduce-scatter cannot be read from a program's text")
        if name.startswith("all-reduce-scatter"):
            each = each._replace(kind="reduce-scatter")
        elif not entry and (channel := _CHANNEL.search(line)):
            if (each.kind, channel[1]) in channels:
                continue
            channels.add((each.kind, channel[1]))
        found.append(each)
    return found


def of_line(line: str) -> Collective | None:
    """The collective that a line of a program makes or starts, if any."""
    operation = _COLLECTIVE.search(line)
    if operation is None:
        return None
    kind = operation["kind"]
    arrays = [(dtype, _product(sizes)) for dtype, sizes in _ARRAY.findall(operation["result"])]
    nested = operation["result"].startswith("((")
    if operation["start"] and (kind == "all-gather" or (kind == "all-reduce" and nested)):
        arrays = arrays[len(arrays) // 2 :]  # the inputs come first
    if operation["start"] and kind == "collective-permute":
        arrays = arrays[:1]  # the result and two counters follow
    return Collective(kind, tuple(arrays))


def array_bytes(text: str) -> list[int]:
    """The size of each array whose type and shape stand in the text of a program."""
    return [_bytes(dtype) * _product(sizes) for dtype, sizes in _ARRAY.findall(text)]


def _product(sizes: str) -> int:
    product = 1
    for size in filter(None, sizes.split(",")):
        product *= int(size)
    return product


def _bytes(dtype: str) -> int:
    if dtype == "pred":
        return 1
    (bits,) = re.findall(r"^[a-z]+(\d+)", dtype)
    return -(-int(bits) // 8)
