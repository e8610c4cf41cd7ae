"""What a run folder keeps of its data set, as `vasso_jax.runs.facts` describes it."""

import dataclasses
from typing import Any

from vasso_jax import data


def dataset_facts(
    dataset: data.ImageDataset | data.StreamedDataset,
    noise: data.LabelNoise | None,
    changed_labels: int | None,
    human_labels: str,
    stratified: bool | None,
) -> dict[str, Any]:
    """Sizes, class names, statistics and label noise, fit for JSON.

    Args:
        dataset: as it is trained on.
        noise: put into the training labels, and `changed_labels`: how many of them it changed.
        human_labels: which human labels are trained on; empty: the true ones.
        stratified: how validation images were held out; None: none were.
    """
    facts = {
        "name": dataset.name,
        "train_images": dataset.num_train,
        "test_images": dataset.num_test,
        "image_shape": dataset.image_shape,
        "streamed": isinstance(dataset, data.StreamedDataset),
        "mean": dataset.mean,
        "std": dataset.std,
        "class_names": dataset.class_names,
    }
    if isinstance(dataset, data.StreamedDataset):
        facts["eval_crop"] = dataset.streaming.eval_crop
    if dataset.num_validation:
        facts["validation_images"] = dataset.num_validation
    if stratified is not None:
        facts["stratified"] = stratified
    if human_labels:
        facts["human_labels"] = human_labels
    if noise is not None:
        facts["label_noise"] = {**dataclasses.asdict(noise), "changed_labels": changed_labels}
    return facts
