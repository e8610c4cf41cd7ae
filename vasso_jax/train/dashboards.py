"""Optional viewers of the records: TensorBoard (through clu) and Weights & Biases."""

import importlib.util
import pathlib
import uuid
from typing import Any, Protocol


class Dashboard(Protocol):
    """Receives each record as scalars."""

    def write(self, step: int, scalars: dict[str, float]) -> None: ...

    def close(self) -> None: ...


def open_dashboards(
    workdir: pathlib.Path, config: dict[str, Any], *, tensorboard: bool, wandb_project: str
) -> list[Dashboard]:
    """The dashboards that are asked for and installed.

    Args:
        workdir: run folder; TensorBoard's event files go there.
        config: plain values, shown by Weights & Biases.
        tensorboard: write event files where TensorFlow and TensorBoard are installed; else nothing.
        wandb_project: name of a Weights & Biases project; empty: none.

    Raises:
        ValueError: a project is named but the package `wandb` is not installed.
    """
    dashboards: list[Dashboard] = []
    # clu's writers need both, and take seconds to import them.
    if tensorboard and all(map(importlib.util.find_spec, ("tensorflow", "tensorboard"))):
        dashboards.append(_TensorBoard(workdir))
    if wandb_project:
        if not importlib.util.find_spec("wandb"):
            raise ValueError(
                f"wandb_project={wandb_project} needs the package wandb: "
                "pip install wandb, or leave the field empty"
            )
        dashboards.append(_WeightsAndBiases(workdir, config, wandb_project))
    return dashboards


class _TensorBoard:
    def __init__(self, workdir: pathlib.Path):
        from clu import metric_writers

        self._writer = metric_writers.SummaryWriter(str(workdir))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        self._writer.write_scalars(step, scalars)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, workdir: pathlib.Path, config: dict[str, Any], project: str):
        import wandb  # pyright: ignore[reportMissingImports]  (an extra)

        # Kept in the workdir, so that a resumed run continues its curves.
        id_file = workdir / "wandb_run_id"
        if not id_file.exists():
            id_file.write_text(uuid.uuid4().hex)
        self._run = wandb.init(
            project=project,
            id=id_file.read_text(),
            resume="allow",
            name=workdir.name,
            dir=str(workdir),
            config=config,
        )

    def write(self, step: int, scalars: dict[str, float]) -> None:
        self._run.log(scalars, step=step)

    def close(self) -> None:
        self._run.finish()
