"""A user's story: own images in folders, a network fine-tuned for other classes, predictions."""

import json
import re

import numpy as np
import PIL.Image
import pytest

import vasso_jax
from tests import runs
from tests.train.networks import SMALL
from vasso_jax import data
from vasso_jax.cli import compare, predict

pytestmark = pytest.mark.slow


def write_folders(root, classes):
    """The digits of these classes as PNGs: root/train/CLASS/I.png and root/test/CLASS/I.png."""
    digits = data.load("digits")
    for name, (images, labels) in {"train": digits.train, "test": digits.test}.items():
        for digit, label in classes.items():
            folder = root / name / label
            folder.mkdir(parents=True)
            for i, pixels in enumerate(images[labels == digit]):
                PIL.Image.fromarray(pixels[..., 0]).save(folder / f"{i:03}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("story")


@pytest.fixture(scope="module")
def first(folder):
    """A network for three classes, with validation, patience and an average of its weights."""
    images = write_folders(folder / "first", {0: "zero", 1: "one", 2: "two"})
    result, out = runs.run(
        folder / "runs/first",
        *(SMALL, "data.name=folder", f"data.dir={images}", "batch_size=32", "epochs=12"),
        *("validation.share=0.2", "patience=3", "ema_decay=0.9", "base.lr=0.2"),
    )
    return result, out


def test_it_learns_on_images_held_out_for_it(first):
    result, out = first
    assert re.search(r"folder, \d+ training, \d+ validation and \d+ test images of 8x8x1", out)
    assert result["best_test_top1"] > 0.8
    assert result["best_validation_top1"] >= result["validation_top1"] - 0.1


def test_its_best_weights_serve_other_classes(folder, first):
    images = write_folders(folder / "second", {6: "six", 7: "seven"})
    fields = (SMALL, "data.name=folder", f"data.dir={images}", "batch_size=16", "base.lr=0.2")
    tuned, out = runs.run(
        folder / "runs/second", *fields, "epochs=16", f"init_from={folder / 'runs/first'}@best"
    )
    assert "weights    from" in out
    assert tuned["test_top1"] > 0.9
    # It begins with the layers of the other one.
    before = vasso_jax.load_run(folder / "runs/first", "best").variables["params"]
    after = vasso_jax.load_run(folder / "runs/second", "best").variables["params"]
    before, moved = (params["conv"]["kernel"] for params in (before, after))
    assert np.linalg.norm(moved - before) < np.linalg.norm(before)
    assert after["head"]["kernel"].shape[-1] == 2


def test_it_names_what_is_on_new_images(folder, first, capsys):
    shown = sorted((folder / "first/test").rglob("*.png"))[::20]
    predict.main([str(folder / "runs/first@best"), *map(str, shown), f"--csv={folder / 'out.csv'}"])
    assert len(capsys.readouterr().out.splitlines()) >= len(shown)
    lines = (folder / "out.csv").read_text().splitlines()[1:]
    assert len(lines) == len(shown)
    right = sum(
        path.parent.name in line.split(",")[1] for path, line in zip(shown, lines, strict=True)
    )
    assert right / len(shown) > 0.7


def test_it_stands_in_the_tables(folder, first):
    table = folder / "table.json"
    compare.main([str(folder / "runs/first"), "--metric=ema_top1", f"--json={table}"])
    (row,) = json.loads(table.read_text())["runs"]
    assert row["last"] == pytest.approx(first[0]["ema_test_top1"])
    assert row["best"] == pytest.approx(first[0]["best_ema_test_top1"])
