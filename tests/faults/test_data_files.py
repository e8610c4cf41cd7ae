"""Damaged files of data sets: each is read, or refused in one line that names it."""

import io
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests import tiny_cifar
from tests.data.photographs import encode, photograph, with_orientation
from tests.faults.damage import damaged, examples, read_or_refuse
from vasso_jax.data import load
from vasso_jax.data.prepare.archives import read_members
from vasso_jax.inference import Preprocessing

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3)).astype(np.uint8)


def written(save, *arguments, **more):
    """What `save(file, ...)` writes."""
    file = io.BytesIO()
    save(file, *arguments, **more)
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


ARRAYS = {"images": PIXELS, "labels": np.arange(4) % 2, "class_names": np.array(["a", "b"])}
ARCHIVES = [written(save, **ARRAYS) for save in (np.savez, np.savez_compressed)]


@examples(0.5)
@given(content=damaged(*ARCHIVES))
def test_an_archive_of_arrays(folder, content):
    (folder / "train.npz").write_bytes(content)
    (folder / "test.npz").write_bytes(ARCHIVES[0])
    read_or_refuse(lambda: load("npz", dir=str(folder)), folder)


FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
SMALL = [written(Image.fromarray(PIXELS[0]).save, name) for name in FORMATS]
PHOTOGRAPH = photograph(48, 64)
PHOTOGRAPHS = [
    encode(PHOTOGRAPH),
    encode(PHOTOGRAPH, progressive=True),
    encode(PHOTOGRAPH, restart_marker_rows=1, exif=with_orientation(1)),
    encode(PHOTOGRAPH, exif=with_orientation(6)),
    encode(PHOTOGRAPH, mode="CMYK"),
]


@examples(0.3)
@given(content=damaged(*SMALL, *PHOTOGRAPHS))
@pytest.mark.parametrize("crop", [None, 0.875])
def test_an_image_to_predict(folder, content, crop):
    path = folder / "image.png"
    path.write_bytes(content)
    half = (0.5, 0.5, 0.5)
    read_or_refuse(lambda: Preprocessing((8, 8, 3), half, half, crop).resized([path]), path)


@examples(0.2)
@given(content=damaged(*SMALL))
def test_an_image_of_a_folder(folder, content):
    for path in ("train/ant/0.png", "train/ant/1.png", "test/ant/0.png"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(SMALL[0])
    (folder / "train/ant/1.png").write_bytes(content)
    read_or_refuse(lambda: load("folder", dir=str(folder)), folder / "train/ant/1.png")


def archive(form, **members):
    def write(file):
        with tarfile.open(fileobj=file, mode="w:gz", format=form) as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(f"folder/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))

    return written(write)


TARS = [
    archive(form, meta=b"a\nb\n", batch=PIXELS.tobytes())
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)
]


@examples(0.4)
@given(content=damaged(*TARS))
def test_an_archive_of_files(folder, content):
    path = folder / "archive.tar.gz"
    path.write_bytes(content)
    read_or_refuse(lambda: read_members(path, ["meta", "batch"]), path)


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def copy(request, tmp_path_factory):
    """A copy by tensorflow-datasets, and the contents of its files."""
    root = tmp_path_factory.mktemp(request.param)
    tiny_cifar.prepare(root, train=3, test=2)
    version = root / "cifar10/3.0.2"
    if request.param == "tfrecord":
        tiny_cifar.convert_to_tfrecord(version)
    return version, {path: path.read_bytes() for path in version.iterdir()}


def test_a_copy_with_another_number_of_names(copy):
    version, files = copy
    path = version / "label.labels.txt"
    try:
        path.write_bytes(2 * files[path])
        with pytest.raises(ValueError, match=f"{version} has 20 names for 10 classes: delete"):
            load("cifar10", dir=str(version.parents[1]))
    finally:
        path.write_bytes(files[path])


@pytest.mark.parametrize(
    ("name", "valid", "wrong"),
    [
        ("features.json", '"dtype": "uint8"', '"dtype": ""'),
        ("features.json", '"label": {', '"la\\n\\nbel": {'),
        ("dataset_info.json", '"train"', f'"{20_000 * "x"}"'),
    ],
)
def test_a_copy_with_odd_text_in_its_description(copy, name, valid, wrong):
    version, files = copy
    path = version / name
    text = files[path].decode()
    assert valid in text
    try:
        path.write_text(text.replace(valid, wrong))
        assert not read_or_refuse(lambda: load("cifar10", dir=str(version.parents[1])), version)
    finally:
        path.write_bytes(files[path])


@examples(0.1)
@given(data=st.data())
def test_a_copy_by_tensorflow_datasets(copy, data):
    version, files = copy
    path = data.draw(st.sampled_from(sorted(files)))
    try:
        path.write_bytes(data.draw(damaged(files[path])))
        read_or_refuse(lambda: load("cifar10", dir=str(version.parents[1])), version)
    finally:
        path.write_bytes(files[path])
