"""The measured errors in few numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vasso_jax.sharpness import DirectionErrors

PHASES = {"first": 0.0, "middle": 0.45, "last": 0.9}  # where these tenths of a run begin
POINTS = 40  # of a curve


def in_phase(
    errors: Mapping[str, Mapping[str, DirectionErrors]], begin: float
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Means over the tenth of the run that begins at this share of it."""

    def summary(of: DirectionErrors, sam: DirectionErrors) -> dict[str, float | None]:
        steps = len(sam.variance)
        phase = slice(int(begin * steps), int((begin + 0.1) * steps))
        sigma2 = sam.squared_error[phase].mean()
        by_stream = of.squared_error[phase].mean(axis=0) / sigma2
        several = len(by_stream) > 1
        squared_error = of.squared_error[phase].mean(axis=1)
        above = (squared_error > sam.squared_error[phase].mean(axis=1)).mean()
        numbers = {
            "mse": squared_error.mean(),
            "over_sam": by_stream.mean(),
            "standard_error": several and by_stream.std(ddof=1) / np.sqrt(len(by_stream)),
            "bias_over_sam": several and of.bias[phase].mean() / sigma2,
            "variance_over_sam": several and of.variance[phase].mean() / sigma2,
            "share_of_steps_above_sam": above,
            "over_squared_norm": squared_error.mean() / of.squared_norm[phase].mean(),
            "cosine": of.cosine[phase].mean(),
            "successive_cosine": np.nanmean(of.successive_cosine[phase]),
        }
        return {name: None if x is False else digits(x) for name, x in numbers.items()}

    return {
        sampling: {name: summary(of, of_all["SAM"]) for name, of in of_all.items()}
        for sampling, of_all in errors.items()
    }


def curves(errors: Mapping[str, DirectionErrors]) -> dict[str, Any]:
    """Means over short stretches of the run, by direction."""
    steps = len(errors["SAM"].variance)
    stretches = np.array_split(np.arange(1, steps), min(POINTS, steps - 1))

    def means(of: DirectionErrors) -> dict[str, list[float]]:
        squared_errors = [of.squared_error[rows].mean() for rows in stretches]
        of_sam = [errors["SAM"].squared_error[rows].mean() for rows in stretches]
        return {
            "mse": [digits(x) for x in squared_errors],
            "over_sam": [digits(x / y) for x, y in zip(squared_errors, of_sam, strict=True)],
            "cosine": [digits(of.cosine[rows].mean()) for rows in stretches],
            "successive_cosine": [digits(of.successive_cosine[rows].mean()) for rows in stretches],
        }

    middles = [float(rows.mean()) for rows in stretches]
    return {"step": middles, **{name: means(of) for name, of in errors.items()}}


def digits(x: Any) -> float:
    """As many as are worth keeping."""
    return float(f"{float(x):.4g}")
