"""Sources: data sets that are described, but not read yet."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from vasso_jax.data.datasets import ImageDataset, StreamedDataset
from vasso_jax.own_code import own_code


class Source(abc.ABC):
    """A data set whose fields have been checked, but not its files."""

    def prepare(self, console: Console) -> None:
        """Downloads and prepares the data set, if that is needed and supported.

        Args:
            console: where lines and progress bars go.

        Raises:
            OSError: no network, or the disk is full or read-only.
        """
        del console

    @abc.abstractmethod
    def load(self) -> ImageDataset | StreamedDataset:
        """Reads or opens the data set.

        Raises:
            ValueError: the files found are not such a data set, or are damaged.
            OSError: something is missing or cannot be read; the message says what to do.
        """


@dataclasses.dataclass(frozen=True)
class Given(Source):
    """A data set that is already loaded."""

    dataset: ImageDataset | StreamedDataset

    def load(self) -> ImageDataset | StreamedDataset:
        """The data set."""
        return self.dataset


@dataclasses.dataclass(frozen=True)
class Own(Source):
    """The user's own function that returns a data set.

    Attributes:
        name: `pkg.module:Name`.
        function: the function of that name.
        fields: its arguments.
    """

    name: str
    function: Callable[..., Any]
    fields: Mapping[str, Any]

    def load(self) -> ImageDataset | StreamedDataset:
        """What the function returns."""
        call = f"{self.name}({', '.join(f'{field}=...' for field in self.fields)})"
        with own_code(f"data set {self.name} cannot be loaded", call, (ValueError, OSError)):
            dataset = self.function(**self.fields)
        if not isinstance(dataset, ImageDataset | StreamedDataset):
            raise ValueError(
                f"{self.name} must return a vasso_jax.data.ImageDataset (see data.from_arrays) or "
                f"StreamedDataset, got {type(dataset).__name__}"
            )
        return dataset
