"""The loss of a run that is measured: which images, which statistics, and what is left out."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from vasso_jax import data
from vasso_jax.data.subset import SPLITS
from vasso_jax.inference import TrainedRun
from vasso_jax.names import check_choice
from vasso_jax.runs import RunFolder
from vasso_jax.sharpness.checks import check_count
from vasso_jax.sharpness.objective import Objective
from vasso_jax.train.config.objects import Dataset
from vasso_jax.train.errors import usage_errors
from vasso_jax.train.objective import BATCH_STATS, measured_images, network_loss
from vasso_jax.train.run_data import read_again

# What `vasso_jax.train.objective` leaves out, for the record.
_ALWAYS = {
    "loss": "cross-entropy",
    "label_smoothing": 0.0,
    "weight_decay": 0.0,
    "augmentation": False,
    "dropout": False,
    "dtype": "float32",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Which loss of a run is measured.

    Attributes:
        split: `train` (with the label noise of the run, if any), `test` or `validation`.
        examples: how many images are drawn; all, if there are fewer. With the statistics of the
            batch, only whole batches are taken of them.
        seed: of the draw: all runs on one data set get the same images.
        batch_size: images per pass.
        batch_stats: see `network_loss`.

    Raises:
        ValueError: a value is out of range.
    """

    split: str = "train"
    examples: int = 2000
    seed: int = 0
    batch_size: int = 200
    batch_stats: str = "running"

    def __post_init__(self) -> None:
        check_choice("split", self.split, SPLITS)
        check_choice("choice of batch_stats", self.batch_stats, BATCH_STATS)
        for field, least in (("examples", 1), ("batch_size", 1), ("seed", 0)):
            check_count(field, getattr(self, field), least)

    def of(self, folder: RunFolder) -> dict[str, Any]:
        """All choices for a run, as they are recorded: with the images that there are.

        Raises:
            ValueError: the run has no such split, or its folder cannot be read.
            OSError: a file cannot be read.
        """
        images = folder.facts().get(f"{self.split}_images", 0)
        if not images:
            raise ValueError(f"{folder.path} has no {self.split} split: give another one")
        average = bool(folder.settings().get("ema_decay"))
        return {
            **dataclasses.asdict(self),
            "examples": measured_images(
                min(self.examples, images), self.batch_size, self.batch_stats
            ),
            "weights": "average" if average else "last step",
            **_ALWAYS,
        }


def objective(
    run: TrainedRun, options: LossOptions | None = None, dataset: Dataset | None = None
) -> tuple[Objective, Any]:
    """The loss of a run on some of its images, and the parameters of its checkpoint.

    The loss is the cross-entropy of the network alone: without augmentation, dropout, weight decay
    and label smoothing.

    Args:
        run: of `load_run`.
        options: which loss; None: the default one.
        dataset: of a run that was given one as an object.

    Returns:
        What the functions of `vasso_jax.sharpness` take.

    Raises:
        UsageError: the data set cannot be read or is another one, an image is damaged, or a choice
            has no effect.
    """
    options = options or LossOptions()
    with usage_errors():
        sections = {name: run.settings.get(name) for name in ("data", "label_noise", "validation")}
        read = _images if dataset is None else _images.__wrapped__
        images, facts = read(
            json.dumps(sections, sort_keys=True),
            options.split,
            options.examples,
            options.seed,
            dataset,
        )
        _check_data(run, facts)
        return network_loss(
            run.model,
            run.variables,
            images,
            run.preprocessing.mean,
            run.preprocessing.std,
            batch_size=options.batch_size,
            batch_stats=options.batch_stats,
        )


# One run after the other has the same images.
@functools.lru_cache(maxsize=1)
def _images(
    settings: str, split: str, examples: int, seed: int, dataset: Dataset | None
) -> tuple[data.Split, Mapping[str, Any]]:
    whole, facts = read_again(json.loads(settings), dataset)
    return data.draw(whole, split, examples, seed), facts


def _check_data(run: TrainedRun, facts: Mapping[str, Any]) -> None:
    changed = RunFolder(run.folder).changed_facts(facts)
    if changed:
        raise ValueError(
            f"the data set is not the one that {run.folder} was trained on ({'; '.join(changed)}): "
            "bring that one back, or from Python give it as dataset="
        )
