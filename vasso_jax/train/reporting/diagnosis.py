"""Warnings about a sharpness-aware method that does not do what it is for."""

from collections.abc import Mapping, Sequence
from typing import Any

from vasso_jax.runs import Record
from vasso_jax.train.config.optimizer import METHODS

# Of rho: rounding in float32 leaves far more of the norm than this.
_LEAST_NORM = 0.9


def doubts(settings: Mapping[str, Any]) -> list[str]:
    """What the settings alone tell.

    Args:
        settings: of the run, by section.
    """
    method = settings["method"]
    if method["name"] not in METHODS:
        return []  # its arguments may mean anything
    found = []
    if method.get("rho") == 0:
        found.append(
            "method.rho=0 perturbs nothing: the run is that of method none, at the price of the "
            "further evaluations"
        )
    if method.get("theta") == 0:
        found.append(
            "method.theta=0 keeps the first gradient of the run as the direction for ever: the "
            "published settings are 0.2 to 0.9"
        )
    return found


def symptoms(training: Sequence[Record], *, ended: bool) -> list[str]:
    """What the records of the training tell.

    Args:
        training: of the epochs so far.
        ended: whether there will be no more.
    """
    perturbed = [record for record in training if record.get("perturbed")]
    found = []
    if ended and not perturbed and any("perturbed" in record for record in training):
        found.append("no step was perturbed: method.active was false at all of them")
    if norms := _values(perturbed, "perturbation_norm"):
        over_rho = _values(perturbed, "norm_over_rho")
        if max(norms) == 0:
            found.append(
                "every perturbation was zero: the gradients vanish, method.mask leaves nothing, or "
                "rho is lost in the rounding of the parameters"
            )
        elif over_rho and 0 <= min(over_rho) < _LEAST_NORM:
            found.append(
                f"the perturbation has {min(over_rho):.2f} of the norm rho: the rest is lost in "
                "the rounding of the parameters; keep them in float32, or raise method.rho"
            )
    cosines = _values(perturbed, "cosine")
    if cosines and min(cosines) < 0:
        found.append(
            f"the direction points against the gradient (mean cosine {min(cosines):.2f} in an "
            "epoch): such a perturbation lowers the loss, and the step is no sharpness-aware one"
        )
    if skipped := sum(_values(training, "nonfinite_gradients")):
        found.append(f"{skipped:,} gradients were not finite, and had no part in the direction")
    return found


def _values(records: Sequence[Record], name: str) -> list[Any]:
    return [record[name] for record in records if name in record]
