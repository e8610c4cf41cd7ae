"""The table of a result of this benchmark."""

from typing import Any

from rich.table import Table


def table(result: dict[str, Any]) -> Table:
    """One row per step.

    Args:
        result: what `measure` returns, or the content of its JSON file.
    """
    size = result["image_size"]
    found = Table(
        "step",
        *("median ms", "min", "max", "images/s", f"over {result['ratio_to']}", "range"),
        *("GFLOP", "memory MB", "of peak"),
        title=f"{result['model']}, {size}x{size}, batch {result['batch_size']}, "
        f"{result['precision']}, {result['devices']} x {result['device']}",
        caption=f"peak: {result['peak_flops'] / 1e12:.3g} TFLOP/s ({result['peak_source']})",
    )
    for column in found.columns[1:]:
        column.justify = "right"
    for name, row in result["rows"].items():
        milliseconds = (f"{1e3 * row[key]:.2f}" for key in ("median_s", "min_s", "max_s"))
        of_program = ["", "", ""]
        if "flops" in row:
            of_program[:2] = f"{row['flops'] / 1e9:.1f}", f"{row['memory_bytes'] / 1e6:.0f}"
        if "share_of_peak" in row:
            of_program[2] = f"{row['share_of_peak']:.1%}"
        found.add_row(
            name,
            *milliseconds,
            f"{row['images_per_s']:.0f}",
            f"{row['ratio']:.3f}",
            f"{row['ratio_min']:.2f}-{row['ratio_max']:.2f}",
            *of_program,
        )
    return found
