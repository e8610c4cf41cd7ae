"""The run folder: its format, its only reader and writer, and what is read off runs.

Format 4. A run folder holds:

    config.json     The settings, a JSON object. Settings that belong together are a section, an
                    object of its own, such as {"method": {"name": "vasso", "rho": 0.1}}; an empty
                    section turns off what it would set up. "format" is the number of this format.
    dataset.json    Facts about the data set, a JSON object; see `facts.py`.
    metrics.jsonl   The records, one JSON object per line and in the order of steps; see
                    `records.py`, and `continuity.py` for how they follow on each other.
    run.lock        Held by the process that trains the run; see `lock.py`.
    checkpoints/    One folder per checkpoint, named by its step, and those that were found damaged,
                    named STEP.damaged. Only the trainer reads them.
    curves.png      The learning curves of a finished run.
    sharpness.json  What was measured of its checkpoints; see `sharpness.py`. Beside it,
                    `sharpness.json.lock` keeps two processes from writing it at once.
    density.png     The density of the eigenvalues of its Hessian, if that was measured.
    slice.png       The loss around a checkpoint, if that was measured.
    wandb_run_id    The id of the run at Weights & Biases, if it is shown there.

`RunFolder` writes and checks a folder. `read_run`, `group_runs` and the statistics read finished
runs. This package imports neither jax nor the rest of vasso_jax.
"""

from vasso_jax.runs.choice import Choice, candidates, choose
from vasso_jax.runs.comparison import Group, budgets, differences_to, group_runs
from vasso_jax.runs.curves import plot_curves, plot_groups
from vasso_jax.runs.facts import summary
from vasso_jax.runs.files import read_object, sync_folder, write_bytes, write_text
from vasso_jax.runs.fingerprint import check_fingerprint, fingerprint
from vasso_jax.runs.folder import FORMAT, RunFolder, run_folders
from vasso_jax.runs.records import (
    OF_TIME,
    Dashboard,
    Record,
    RecordFile,
    by_rank,
    evaluations,
    is_complete,
    of_best_checkpoint,
    of_split,
    out_of_patience,
    rank,
)
from vasso_jax.runs.run import Run, read_run
from vasso_jax.runs.settings import MAY_CHANGE, SEEDS, differences, flatten, identity, may_change
from vasso_jax.runs.sharpness import (
    Measurement,
    add_measurement,
    figures_at,
    figures_in,
    is_figure,
    read_measurements,
)
from vasso_jax.runs.statistics import (
    Estimate,
    PairedDifference,
    estimate,
    interval,
    paired_difference,
    seeds_needed,
)

__all__ = [
    "FORMAT",
    "MAY_CHANGE",
    "OF_TIME",
    "SEEDS",
    "Choice",
    "Dashboard",
    "Estimate",
    "Group",
    "Measurement",
    "PairedDifference",
    "Record",
    "RecordFile",
    "Run",
    "RunFolder",
    "add_measurement",
    "budgets",
    "by_rank",
    "candidates",
    "check_fingerprint",
    "choose",
    "differences",
    "differences_to",
    "estimate",
    "evaluations",
    "figures_at",
    "figures_in",
    "fingerprint",
    "flatten",
    "group_runs",
    "identity",
    "interval",
    "is_complete",
    "is_figure",
    "may_change",
    "of_best_checkpoint",
    "of_split",
    "out_of_patience",
    "paired_difference",
    "plot_curves",
    "plot_groups",
    "rank",
    "read_measurements",
    "read_object",
    "read_run",
    "run_folders",
    "seeds_needed",
    "summary",
    "sync_folder",
    "write_bytes",
    "write_text",
]
