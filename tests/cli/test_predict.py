"""The command that predicts: what it prints and writes, and what it leaves out or refuses."""

import csv
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests import runs
from tests.train.networks import SMALL
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
    (folder / "._a.png").write_text("what macOS leaves there")
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
        shares = [f"{i} {100 * p[i]:.2f} %" for i in (first, second)]
        assert line == f"{file}: {shares[0]}, {shares[1]}"
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
        f"left out: {images / 'broken.png'}: not an image that can be decoded: cannot identify "
        "image file"
    ]


def test_a_run_on_files_predicts_what_python_does(tmp_path, capsys):
    """Images that are cropped twice would not."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 256, (40, 50 + i, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    settings = (f"data.dir={tmp_path}", "data.name=folder", "data.image_size=16", SMALL)
    runs.run(tmp_path / "run", *settings, "batch_size=8", "epochs=1")
    predict.main([str(tmp_path / "run"), str(tmp_path / "val"), "--top=1"])
    files = sorted((tmp_path / "val").rglob("*.png"))
    expected = load_run(tmp_path / "run").predict(files).max(1)
    shown = [float(line.split()[-2]) / 100 for line in capsys.readouterr().out.splitlines()]
    np.testing.assert_allclose(shown, expected, atol=1e-4)


@pytest.mark.parametrize("command", [["predict", "{images}"], ["export", "{images}/p.jaxexport"]])
def test_a_damaged_checkpoint_is_one_message(unbroken, images, tmp_path, command):
    shutil.copytree(unbroken[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints" / str(runs.TOTAL_STEPS) / "state/d")
    name, *rest = (part.format(images=images) for part in command)
    arguments = [sys.executable, "-m", "vasso_jax", name, str(tmp_path / "run"), *rest]
    ended = subprocess.run(arguments, cwd=runs.ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    (message,) = ended.stderr.splitlines()
    assert "/22 is damaged (" in message
    assert "that of step 21 is whole, take " in message


def test_a_reader_that_goes_away_is_no_error(unbroken, images):
    command = [sys.executable, "-m", "vasso_jax", "predict", str(unbroken[0]), *[str(images)] * 300]
    process = subprocess.Popen(
        command, cwd=runs.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (-signal.SIGPIPE, b"")


def test_names_that_are_no_utf8_and_folders_named_like_images(unbroken, images, tmp_path, capsys):
    (images / "folder.png").mkdir()
    (images / "a.png").rename(os.fsdecode(os.fsencode(images) + b"/\xff.png"))
    predict.main([str(unbroken[0]), str(images), f"--csv={tmp_path / 'table.csv'}"])
    assert "\\udcff.png: " in capsys.readouterr().out
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize("target", ["table.csv", "a.png"])
def test_a_table_is_written_at_the_end_and_over_no_image(unbroken, images, target):
    table = images / target
    if target == "table.csv":
        table.write_text("of another day")
        (images / "notes.txt").rename(images / "notes.png")
        arguments = [images / "notes.png"]
    else:
        arguments = [images]
    before = table.read_bytes()
    with pytest.raises(SystemExit):
        predict.main([str(unbroken[0]), *map(str, arguments), f"--csv={table}"])
    assert table.read_bytes() == before


def test_another_checkpoint_by_its_name(unbroken, images, tmp_path, capsys):
    for name in ("", "@last", "@best", f"@{runs.TOTAL_STEPS}"):
        predict.main([f"{unbroken[0]}{name}", str(images / "a.png")])
    assert len({*capsys.readouterr().out.splitlines()}) == 1
    # A folder that has such a name is meant itself.
    (tmp_path / "run@best").symlink_to(unbroken[0])
    predict.main([str(tmp_path / "run@best"), str(images / "a.png")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "{images}/none.png"], "there is no"),
        (["{run}", "{images}/empty"], "holds no image files"),
        (["{run}", "{images}/notes.txt"], "no image could be read"),
        (["{run}@5", "{images}"], "no checkpoint of step 5, only of"),
        (["{run}@worst", "{images}"], "there is no"),
        (["{run}", "{images}", "--top=11"], "--top=11 exceeds the 10 classes of the run"),
        (["{run}", "{images}", "--top=0"], "argument --top: must be an integer of at least 1"),
        (["{images}", "{images}"], "is not a run folder"),
        (["{run}", "/dev/null"], "/dev/null is no file"),
        (["{run}", "{images}", "--csv={images}"], "cannot be written (Is a directory)"),
        (["{run}", "{images}", "--csv={images}/a.png"], "is one of the images"),
    ],
)
def test_what_it_refuses(unbroken, images, arguments, message, capsys):
    (images / "empty").mkdir()
    with pytest.raises(SystemExit) as end:
        predict.main([a.format(run=unbroken[0], images=images) for a in arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
