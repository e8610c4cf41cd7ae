"""The data of a run: a data set with label noise put in and validation images held out."""

from collections.abc import Mapping
from typing import Any

from vasso_jax import data
from vasso_jax.data.sources import Given, Source
from vasso_jax.train.config.objects import Dataset
from vasso_jax.train.config.parts import bind_section
from vasso_jax.train.dataset_facts import dataset_facts


def as_trained(
    dataset: Dataset,
    source: Source,
    label_noise: data.LabelNoise | None,
    validation: data.Validation | None,
) -> tuple[Dataset, dict[str, Any]]:
    """The data set as a run trains on it, and what the run folder keeps of it.

    Args:
        dataset: what the source has loaded.
        source: of the data set.
        label_noise: to be put into the training labels, if any.
        validation: which training images are held out, if any.

    Raises:
        ValueError: the data set does not fit the noise or the validation.
    """
    changed_labels = stratified = None
    if label_noise is not None:
        dataset, changed_labels = data.add_label_noise(dataset, label_noise)
    if validation is not None:
        stratified = getattr(dataset.train, "labels", None) is not None
        dataset = data.hold_out(dataset, validation)
    human_labels = getattr(source, "human_labels", "")
    facts = dataset_facts(dataset, label_noise, changed_labels, human_labels, stratified)
    return dataset, facts


def read_again(
    settings: Mapping[str, Any], dataset: Dataset | None = None
) -> tuple[Dataset, dict[str, Any]]:
    """The data of a run that is there already, as `as_trained` returns them.

    Args:
        settings: of its config.json.
        dataset: of a run that was given one as an object.

    Raises:
        ValueError: the data set does not exist, is damaged, or does not fit the settings.
        OSError: it cannot be read.
    """
    parts = {
        section: bind_section(section, settings[section])
        for section in ("data", "label_noise", "validation")
        if settings.get(section) and not (section == "data" and dataset is not None)
    }
    source = parts["data"]() if dataset is None else Given(dataset)
    noise, validation = (
        parts[section]() if section in parts else None for section in ("label_noise", "validation")
    )
    return as_trained(source.load(), source, noise, validation)
