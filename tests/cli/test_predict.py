"""The command that predicts: what it prints and writes, and what it leaves out or refuses."""

import csv

import numpy as np
import pytest
from PIL import Image

from vasso_jax import load_run
from vasso_jax.cli import predict

pytestmark = pytest.mark.slow


@pytest.fixture
def images(tmp_path):
    """A folder of three images, one of them below it, and a text."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.PNG", "more/c.jpg"):
        Image.fromarray(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def test_it_prints_and_writes_the_most_likely_classes(unbroken, images, tmp_path, capsys):
    workdir, *_ = unbroken
    predict.main([str(workdir), str(images), "--top=2", f"--csv={tmp_path / 'table.csv'}"])
    files = [images / "a.png", images / "b.PNG", images / "more/c.jpg"]
    found = load_run(workdir).predict(files)
    lines = capsys.readouterr().out.splitlines()
    with open(tmp_path / "table.csv") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["image", "class_1", "probability_1", "class_2", "probability_2"]
    for file, p, line, row in zip(files, found, lines, rows, strict=True):
        first, second = np.argsort(-p)[:2]
        assert line == f"{file}: {first} {p[first]:.4f}, {second} {p[second]:.4f}"
        assert row[:2] == [str(file), str(first)]
        assert float(row[4]) == pytest.approx(p[second], rel=1e-4)


def test_what_cannot_be_read_is_left_out(unbroken, images, capsys):
    (images / "broken.png").write_text("no image")
    with pytest.raises(SystemExit) as end:
        predict.main([str(unbroken[0]), str(images)])
    assert end.value.code == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert err.splitlines() == [
        f"left out: {images / 'broken.png'} is not an image that can be decoded: cannot identify "
        "image file"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "{images}/none.png"], "there is no"),
        (["{run}", "{images}/empty"], "holds no image files"),
        (["{run}", "{images}/notes.txt"], "no image could be read"),
        (["{run}", "{images}", "--checkpoint=5"], "no checkpoint of step 5, only of"),
        (["{run}", "{images}", "--checkpoint=worst"], "must be 'last', 'best' or a step"),
        (["{run}", "{images}", "--top=0"], "--top must be at least 1"),
        (["{images}", "{images}"], "is not a run folder"),
        (["{run}", "{images}", "--csv={images}"], "Is a directory"),
    ],
)
def test_what_it_refuses(unbroken, images, arguments, message, capsys):
    (images / "empty").mkdir()
    with pytest.raises(SystemExit) as end:
        predict.main([a.format(run=unbroken[0], images=images) for a in arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
