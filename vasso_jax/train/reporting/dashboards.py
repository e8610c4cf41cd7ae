"""Optional viewers of the records: TensorBoard (through clu) and Weights & Biases."""

import importlib.util
import uuid
from collections.abc import Mapping
from typing import Any

from vasso_jax.files import read_file
from vasso_jax.runs import Dashboard, RunFolder, write_text
from vasso_jax.train.reporting.quiet import without_standard_error


def check_installed(wandb_project: str) -> None:
    """Raises ValueError if a project is given, but the package `wandb` is not installed."""
    if wandb_project and not importlib.util.find_spec("wandb"):
        raise ValueError(
            f"wandb_project={wandb_project} needs the package wandb: "
            "pip install wandb, or leave the field empty"
        )


def open_dashboards(
    folder: RunFolder, settings: Mapping[str, Any], *, tensorboard: bool, wandb_project: str
) -> list[Dashboard]:
    """The dashboards that are requested and installed.

    Args:
        folder: of the run; TensorBoard's event files go there.
        settings: plain values, shown by Weights & Biases.
        tensorboard: write event files, if TensorFlow and TensorBoard are installed.
        wandb_project: name of a Weights & Biases project; empty: none.
    """
    dashboards: list[Dashboard] = []
    # clu's writers need both; importing them takes seconds.
    if tensorboard and all(map(importlib.util.find_spec, ("tensorflow", "tensorboard"))):
        dashboards.append(_TensorBoard(folder))
    if wandb_project:
        dashboards.append(_WeightsAndBiases(folder, settings, wandb_project))
    return dashboards


class _TensorBoard:
    def __init__(self, folder: RunFolder):
        with without_standard_error():
            from clu import metric_writers

            self._writer = metric_writers.SummaryWriter(str(folder.path))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        self._writer.write_scalars(step, scalars)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, folder: RunFolder, settings: Mapping[str, Any], project: str):
        import wandb  # pyright: ignore[reportMissingImports]  (an extra)

        # Kept in the run folder, so that a resumed run continues its curves.
        id_file = folder.wandb_id_path
        if not id_file.exists():
            write_text(id_file, uuid.uuid4().hex)
        self._run = wandb.init(
            project=project,
            id=read_file(id_file).decode(),
            resume="allow",
            name=folder.path.name,
            dir=str(folder.path),
            config=dict(settings),
        )

    def write(self, step: int, scalars: dict[str, float]) -> None:
        self._run.log(scalars, step=step)

    def close(self) -> None:
        self._run.finish()
