"""What a finished run ends with: its result, and the closing table."""

from collections.abc import Sequence
from typing import Any

from vasso_jax.runs import OF_TIME, Run
from vasso_jax.train.reporting.console import percent


def result_of(run: Run, warnings: Sequence[str]) -> dict[str, Any]:
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
    if "ema_top1" in newest:
        result["ema_test_top1"] = newest["ema_top1"]
        result["best_ema_test_top1"] = run.best("ema_top1")
    if run.validations and "ema_top1" in newest:
        result["best_ema_validation_top1"] = run.best_validation("ema_top1")
    if warnings:
        result["warnings"] = list(warnings)
    return result


def closing_rows(run: Run) -> dict[str, str]:
    """The rows of the table at the end of a run."""
    newest, ranked_by = run.tests[-1], run.ranked_by
    rows = {"test top-1, last epoch": percent(run.last())}
    if "ema_top1" in newest:
        rows["test top-1 of the EMA, last epoch"] = percent(newest["ema_top1"])
    of = " of the EMA" if ranked_by == "ema_top1" else ""
    if run.validations:
        best = percent(run.best_validation(ranked_by))
        rows[f"test top-1{of}, epoch {run.best_epoch}"] = (
            f"{percent(run.best(ranked_by))} (best on validation: {best})"
        )
    elif run.epochs:
        best = percent(run.best(ranked_by))
        rows[f"test top-1{of}, best epoch"] = f"{best} (picked on the test set)"
    rows["test loss, last epoch"] = f"{run.last('loss'):.4f}"
    rows |= _of_perturbation(run)
    trained = f"{newest['epoch']}"
    if newest["epoch"] < run.epochs:
        trained += f" of {run.epochs} (stopped early)"
    rows["epochs, steps"] = f"{trained}, {newest['step']:,}"
    rows["time"] = f"{newest['seconds']:.1f} s"
    rows |= _of_time(run)
    rows["workdir"] = str(run.folder)
    return rows


def _of_time(run: Run) -> dict[str, str]:
    """Where the time went, as of the last record that says it."""
    told = next((record for record in reversed(run.records) if "goodput" in record), None)
    if told is None:
        return {}
    spent = {name: told[name] for name in OF_TIME if name.endswith("_seconds")}
    total = sum(spent.values()) or 1.0
    shares = ", ".join(
        f"{100 * seconds / total:.0f} % {name.removesuffix('_seconds')}"
        for name, seconds in spent.items()
        if seconds
    )
    return {"where it went": f"{shares} (of {total:.1f} s in all starts)"}


def _of_perturbation(run: Run) -> dict[str, str]:
    """What the perturbation did: the range of its figures over the epochs."""

    def spread(name: str, digits: int) -> str | None:
        values = [record[name] for record in run.training if name in record]
        if not values:
            return None
        ends = dict.fromkeys(f"{value:.{digits}f}" for value in (min(values), max(values)))
        return " to ".join(ends)

    shares = [record["perturbed"] for record in run.training if "perturbed" in record]
    if not shares:
        return {}
    skipped = sum(record.get("nonfinite_gradients", 0) for record in run.training)
    over_rho = spread("norm_over_rho", 3)
    rows = {
        "steps perturbed": percent(sum(shares) / len(shares)),
        "perturbation norm / rho": over_rho,
        "perturbation norm": None if over_rho else spread("perturbation_norm", 4),
        "cosine to the gradient": spread("cosine", 3),
        "cosine between directions": spread("successive_cosine", 3),
        "perturbed minus clean loss": spread("loss_increase", 4),
        "non-finite gradients": f"{skipped:,}" if skipped else None,
    }
    return {name: value for name, value in rows.items() if value is not None}
