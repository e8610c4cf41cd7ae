"""The facts about a data set that a run keeps in dataset.json, and their summary.

The trainer writes these fields:

    name            of the data set
    train_images    how many are trained on, and `test_images`
    validation_images   how many there are to choose settings and checkpoints by; missing if none
    stratified      whether these were held out of the training images class by class; missing if
                    they are a split of the data set's own
    image_shape     [H, W, C] of what the network is given
    streamed        whether images are read from disk in each epoch
    eval_crop       if so: side of the central crop for the test, relative to the shorter side
    mean, std       per channel, of the training images
    class_names     in the order of the labels
    human_labels    which human labels are trained on; missing if the true ones are
    label_noise     kind, rate, seed, and `changed_labels`, how many labels it changed; missing if
                    there is none
"""

from collections.abc import Mapping
from typing import Any

from vasso_jax.runs.settings import differences

# Missing where there is no such split, which is no other version of the facts.
_NO_SPLIT = {"validation_images": 0, "stratified": None}


def differing_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In what the facts differ, as phrases; see `runs.differences`."""
    return differences({**_NO_SPLIT, **old}, {**_NO_SPLIT, **new})


def summary(facts: Mapping[str, Any]) -> str:
    """The facts in one line, without class names and statistics.

    Args:
        facts: as above; class names and statistics may be missing.
    """
    shape = "x".join(map(str, facts["image_shape"]))
    source = "from disk, cropped to" if facts["streamed"] else "of"
    validation = facts.get("validation_images", 0)
    held_out = f", {validation:,} validation" if validation else ""
    text = (
        f"{facts['name']}, {facts['train_images']:,} training{held_out} and "
        f"{facts['test_images']:,} test images {source} {shape}"
    )
    if facts.get("stratified") is False:
        text += "; validation images drawn without regard to their class"
    if labels := facts.get("human_labels"):
        text += f"; trained on human labels ({labels})"
    if noise := facts.get("label_noise"):
        noisy = facts["train_images"] + (validation if "stratified" in facts else 0)
        share = noise["changed_labels"] / noisy
        text += (
            f"; {noise['kind']} label noise changed {noise['changed_labels']:,} training labels "
            f"({share:.1%})"
        )
    return text
