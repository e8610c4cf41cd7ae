"""Folders of image files: what is found, and what is refused."""

import os
import shutil

import pytest

from tests.data.image_files import colour, jpeg, make_folder
from vasso_jax.data import load


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path)


def test_images_come_in_order_with_their_class_and_bytes(folder):
    (folder / "train/ant/.hidden").touch()
    dataset = load("folder", dir=str(folder))
    assert dataset.class_names == ("ant", "bee")
    assert (dataset.num_train, dataset.num_test) == (12, 6)
    assert [dataset.train[i].label for i in range(12)] == [0] * 6 + [1] * 6
    example = dataset.train[7]
    assert example.encoded == jpeg(colour(7), (23, 24))
    assert example.name == str(folder / "train/bee/001.jpg")
    assert dataset.test[5].label == 1


def test_a_class_with_control_characters_is_refused(folder):
    """They would reach the terminal, in whatever names the class."""
    for split in ("train", "val"):
        (folder / split / "ant").rename(folder / split / "ant\x1b[2J")
    with pytest.raises(
        ValueError,
        match=r"train: the name of class 0, 'ant\\x1b\[2J', has characters that cannot be",
    ):
        load("folder", dir=str(folder))


def test_validation_may_lack_classes_but_not_have_others(folder):
    shutil.rmtree(folder / "val/ant")
    assert [load("folder", dir=str(folder)).test[i].label for i in range(3)] == [1] * 3
    (folder / "val/cat").mkdir()
    (folder / "val/cat/000.jpg").write_bytes(jpeg(colour(0)))
    with pytest.raises(ValueError, match=r"val/cat.*no class of that name"):
        load("folder", dir=str(folder))


def test_images_to_test_on_may_lie_in_test(folder):
    def images():
        split = load("folder", dir=str(folder)).test
        return [split[i][:2] for i in range(len(split))]

    in_val = images()
    (folder / "val").rename(folder / "test")
    assert images() == in_val
    # Where both are there, val is the validation split.
    (folder / "val/ant").mkdir(parents=True)
    (folder / "val/ant/000.jpg").write_bytes(jpeg(colour(0)))
    assert images() == in_val
    validation = load("folder", dir=str(folder)).validation
    assert [validation[i][:2] for i in range(len(validation))] == [(jpeg(colour(0)), 0)]
    # But not if test has no classes, as in ImageNet.
    (folder / "test").rename(folder / "elsewhere")
    (folder / "test").mkdir()
    (folder / "test/000.jpg").write_bytes(jpeg(colour(0)))
    dataset = load("folder", dir=str(folder))
    assert (dataset.num_test, dataset.validation) == (1, None)


def test_what_is_no_such_folder_is_refused(folder):
    (folder / "train/ant/notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt is no image file"):
        load("folder", dir=str(folder))
    (folder / "train/ant/notes.txt").unlink()
    (folder / "train/cow").mkdir()
    with pytest.raises(ValueError, match="train/cow holds no images"):
        load("folder", dir=str(folder))
    shutil.rmtree(folder / "val")
    (folder / "train/cow").rmdir()
    with pytest.raises(FileNotFoundError, match=r"no class folders in .*val"):
        load("folder", dir=str(folder))
    with pytest.raises(TypeError, match="dir"):
        load("folder")


@pytest.mark.parametrize("split", ["train", "val/bee"])
def test_a_folder_without_permission_is_named(folder, split):
    (folder / split).chmod(0)
    user = os.geteuid()
    if not user:
        # Nothing is forbidden to root; the folders above must let others in.
        for parent in [folder, *folder.parents]:
            if not parent.stat().st_mode & 1:
                parent.chmod(parent.stat().st_mode | 0o711)
        os.seteuid(65534)
    try:
        with pytest.raises(OSError, match=f"{split} cannot be read .Permission denied"):
            load("folder", dir=str(folder))
    finally:
        os.seteuid(user)
        (folder / split).chmod(0o755)
