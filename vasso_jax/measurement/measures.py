"""What a measure is: a set of settings that makes figures and details of a loss."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from vasso_jax.sharpness.objective import Objective
from vasso_jax.sharpness.progress import Progress


class Found(NamedTuple):
    """What a measure made of a loss.

    Attributes:
        figures: numbers by name, for tables, such as `lambda_1`.
        details: what can be written as JSON besides, such as eigenvalues with their residuals.
    """

    figures: dict[str, float]
    details: dict[str, Any]


class Measure(Protocol):
    """The settings are the fields of a dataclass; `kind` tells the measures apart."""

    kind: ClassVar[str]

    @property
    def settings(self) -> dict[str, Any]: ...

    def __call__(self, objective: Objective, params: Any, progress: Progress) -> Found: ...


class Settings:
    """What the dataclasses of settings have in common."""

    @property
    def settings(self) -> dict[str, Any]:
        """The fields, by name."""
        return dataclasses.asdict(self)  # pyright: ignore[reportArgumentType]


def as_json(found: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """A NamedTuple of numbers, arrays and trees of them; None for what is not finite."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(x) for key, x in value.items()}
        if isinstance(value, list | tuple):
            return [plain(x) for x in value]
        if isinstance(value, str | bool | int) or value is None:
            return value
        if np.ndim(value):
            return [plain(x) for x in np.asarray(value)]
        number = np.asarray(value).item()
        return number if not isinstance(number, float) or math.isfinite(number) else None

    return {name: plain(value) for name, value in found._asdict().items() if name not in without}
