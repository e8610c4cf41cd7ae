"""The records of compiled steps as tables."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table


def table(records: list[dict[str, Any]]) -> Table:
    """The table that the command prints."""
    found = Table(title="one device's share of a train step; nothing ran")
    for column in (
        *("topology", "model", "method", "fsdp", "TFLOP", "GB moved", "kernels", "estimate, ms"),
        *("state and batch, MB", "temporaries, MB", "exchanged: operations, arrays, MB"),
    ):
        found.add_column(column, justify="right")
    for record in records:
        exchanged = (
            f"{kind} {total['operations']}, {total['arrays']}, {total['bytes'] / 1e6:.2f}"
            for kind, total in record["collectives"].items()
        )
        found.add_row(
            record["topology"],
            _model(record),
            *(str(record[key]) for key in ("method", "fsdp")),
            f"{record['flops'] / 1e12:.4f}",
            f"{record['bytes_accessed'] / 1e9:.2f}",
            str(record.get("kernels", "")),
            f"{1e3 * record['estimated_seconds']:.2f}" if "estimated_seconds" in record else "",
            f"{record['memory']['arguments'] / 1e6:.1f}",
            f"{record['memory']['temporaries'] / 1e6:.0f}",
            "\n".join(exchanged),
        )
    return found


def markdown(records: list[dict[str, Any]], models: Sequence[str]) -> str:
    """The tables of docs/scaling.md (TPUs) and docs/speed.md (GPUs).

    Args:
        records: in any order.
        models: all networks, in the order of the tables.
    """
    gpus = [record for record in records if "kernels" in record]
    tpus = [record for record in records if "kernels" not in record]
    tables = [make(some, models) for make, some in ((_of_tpus, tpus), (_of_gpus, gpus)) if some]
    return "\n".join(tables)


def _of_gpus(records: list[dict[str, Any]], models: Sequence[str]) -> str:
    columns = (
        *("network", "method", "GPUs", "fsdp", "GFLOP", "kernels", "GB moved"),
        *("of these outside the network", "temporaries, MB"),
        *("exchanged: operations; MB; MB beside kernels", "estimate, ms"),
    )
    lines = [columns, ("---",) * len(columns)]
    for record in sorted(records, key=lambda r: (models.index(r["model"]), _place(r))):
        outside, exchanged = record["outside_the_network"], record["collectives"].values()
        operations = sum(kind["operations"] for kind in exchanged)
        megabytes = sum(kind["bytes"] for kind in exchanged) / 1e6
        cells = (
            _model(record),
            *(str(record[key]) for key in ("method", "devices", "fsdp")),
            f"{record['flops'] / 1e9:.0f}",
            f"{record['kernels']:,}",
            f"{record['bytes_accessed'] / 1e9:.2f}",
            f"{outside['kernels']:,}; {outside['bytes'] / 1e9:.2f}",
            f"{record['memory']['temporaries'] / 1e6:.0f}",
            f"{operations}; {megabytes:.1f}; {record['overlapped_bytes'] / 1e6:.1f}"
            if operations
            else "-",
            f"{1e3 * record['estimated_seconds']:.2f}",
        )
        lines.append(cells)
    return _rows(lines)


def _of_tpus(records: list[dict[str, Any]], models: Sequence[str]) -> str:
    columns = (
        *("chips", "network", "method", "fsdp", "TFLOP", "GB moved"),
        *("arguments, MB", "temporaries, MB", "all-reduce", "all-gather", "reduce-scatter"),
    )

    lines = [columns, ("---",) * len(columns)]
    for record in sorted(records, key=lambda r: (models.index(r["model"]), _place(r))):
        memory, exchanged = record["memory"], record["collectives"]
        kinds = (exchanged.get(kind) for kind in columns[-3:])
        cells = (
            str(record["devices"]),
            _model(record),
            *(str(record[key]) for key in ("method", "fsdp")),
            f"{record['flops'] / 1e12:.3f}",
            f"{record['bytes_accessed'] / 1e9:.1f}",
            *(f"{memory[part] / 1e6:.0f}" for part in ("arguments", "temporaries")),
            *(f"{x['operations']} / {x['bytes'] / 1e6:.1f}" if x else "-" for x in kinds),
        )
        lines.append(cells)
    return _rows(lines)


def _model(record: dict[str, Any]) -> str:
    return ", ".join((record["model"], *record.get("settings", ())))


def _place(record: dict[str, Any]) -> tuple[int, int, str]:
    return record["fsdp"], record["devices"], record["method"]


def _rows(lines: list[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
