"""What a finished run ends with: its result, and the closing table."""

from typing import Any

from vasso_jax.runs import Run
from vasso_jax.train.reporting.console import percent


def result_of(run: Run) -> dict[str, Any]:
    """The result of a finished run, as `vasso_jax.train.train` returns it."""
    newest = run.tests[-1]
    result = {
        "test_top1": run.last(),
        "best_test_top1": run.best(),
        "test_loss": run.last("loss"),
        "epochs": newest["epoch"],
        "steps": newest["step"],
        "seconds": newest["seconds"],
        "workdir": str(run.folder),
    }
    if run.validations:
        result["validation_top1"] = run.validations[-1]["top1"]
        result["best_validation_top1"] = run.best_validation()
    return result


def closing_rows(run: Run) -> dict[str, str]:
    """The rows of the table at the end of a run."""
    newest = run.tests[-1]
    rows = {"test top-1, last epoch": percent(run.last())}
    if run.validations:
        epoch = run.best_epoch
        rows[f"test top-1, epoch {epoch} (best on validation)"] = percent(run.best())
        rows["validation top-1, best epoch"] = percent(run.best_validation())
    elif run.epochs:
        rows["test top-1, best epoch (picked on the test set)"] = percent(run.best())
    rows["test loss, last epoch"] = f"{run.last('loss'):.4f}"
    trained = f"{newest['epoch']}"
    if newest["epoch"] < run.epochs:
        trained += f" of {run.epochs} (stopped early)"
    rows["epochs, steps"] = f"{trained}, {newest['step']:,}"
    rows["time"] = f"{newest['seconds']:.1f} s"
    rows["workdir"] = str(run.folder)
    return rows
