"""The records of compiled steps as tables."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table


def table(records: list[dict[str, Any]]) -> Table:
    """The table that the command prints."""
    found = Table(title="one device's share of a train step")
    for column in ("chips", "model", "method", "fsdp", "TFLOP", "GB moved", "state and batch, MB"):
        found.add_column(column, justify="right")
    for column in ("temporaries, MB", "exchanged: operations, arrays, MB", "compiled in s"):
        found.add_column(column, justify="right")
    for record in records:
        exchanged = (
            f"{kind} {total['operations']}, {total['arrays']}, {total['bytes'] / 1e6:.2f}"
            for kind, total in record["collectives"].items()
        )
        found.add_row(
            *(str(record[key]) for key in ("devices", "model", "method", "fsdp")),
            f"{record['flops'] / 1e12:.4f}",
            f"{record['bytes_accessed'] / 1e9:.2f}",
            f"{record['memory']['arguments'] / 1e6:.1f}",
            f"{record['memory']['temporaries'] / 1e6:.0f}",
            "\n".join(exchanged),
            f"{record['seconds']:.0f}",
        )
    return found


def markdown(records: list[dict[str, Any]], models: Sequence[str]) -> str:
    """The table of docs/scaling.md.

    Args:
        records: in any order.
        models: all networks, in the order of the table.
    """
    columns = (
        *("chips", "network", "method", "fsdp", "TFLOP", "GB moved"),
        *("arguments, MB", "temporaries, MB", "all-reduce", "all-gather", "reduce-scatter"),
    )

    def place(record: dict[str, Any]) -> tuple[Any, ...]:
        model = models.index(record["model"])
        return model, record["fsdp"], record["devices"], record["method"]

    lines = [columns, ("---",) * len(columns)]
    for record in sorted(records, key=place):
        memory, exchanged = record["memory"], record["collectives"]
        kinds = (exchanged.get(kind) for kind in columns[-3:])
        cells = (
            *(str(record[key]) for key in ("devices", "model", "method", "fsdp")),
            f"{record['flops'] / 1e12:.3f}",
            f"{record['bytes_accessed'] / 1e9:.1f}",
            *(f"{memory[part] / 1e6:.0f}" for part in ("arguments", "temporaries")),
            *(f"{x['operations']} / {x['bytes'] / 1e6:.1f}" if x else "-" for x in kinds),
        )
        lines.append(cells)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
