"""What a run tells of its data set: in its folder as dataset.json, and in its opening lines."""

import dataclasses
from typing import Any

from vasso_jax import data


def dataset_facts(
    dataset: data.ImageDataset | data.StreamedDataset,
    image_shape: tuple[int, int, int],
    noise: data.LabelNoise | None,
    changed_labels: int | None,
    human_labels: str,
) -> dict[str, Any]:
    """Sizes, class names, statistics and label noise, fit for JSON.

    Args:
        dataset: as it is trained on.
        image_shape: (H, W, C) of what the network sees.
        noise: put into the training labels, and `changed_labels`: how many of them it changed.
        human_labels: which people's labels are trained on; empty: the true ones.
    """
    facts = {
        "name": dataset.name,
        "train_images": dataset.num_train,
        "test_images": dataset.num_test,
        "image_shape": image_shape,
        "streamed": isinstance(dataset, data.StreamedDataset),
        "mean": dataset.mean,
        "std": dataset.std,
        "class_names": dataset.class_names,
    }
    if human_labels:
        facts["human_labels"] = human_labels
    if noise is not None:
        facts["label_noise"] = {**dataclasses.asdict(noise), "changed_labels": changed_labels}
    return facts


def in_words(facts: dict[str, Any]) -> str:
    """The same in a line, without class names and statistics."""
    shape = "x".join(map(str, facts["image_shape"]))
    words = (
        f"{facts['name']}, {facts['train_images']:,} training and {facts['test_images']:,} test "
        f"images {'from disk, cropped to' if facts['streamed'] else 'of'} {shape}"
    )
    if labels := facts.get("human_labels"):
        words += f"; trained on people's labels ({labels})"
    if noise := facts.get("label_noise"):
        share = noise["changed_labels"] / facts["train_images"]
        words += (
            f"; {noise['kind']} label noise changed {noise['changed_labels']:,} training labels "
            f"({share:.1%})"
        )
    return words
