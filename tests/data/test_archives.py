"""Files read from a tar archive: only those named, and never more than an archive of CIFAR has."""

import io
import re
import tarfile

import pytest

from vasso_jax.data.prepare.archives import read_members


def write(path, *members, mode="w:gz"):
    """Members are pairs of TarInfo fields and a content."""
    with tarfile.open(path, mode) as tar:
        for fields, content in members:
            member = tarfile.TarInfo()
            for field, value in ({"size": len(content)} | fields).items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_files_are_found_by_name_wherever_they_are(tmp_path):
    path = write(
        tmp_path / "x.tar.gz",
        ({"name": "../up/a"}, b"aa"),
        ({"name": "/b"}, b""),
        ({"name": "c"}, b""),
    )
    assert read_members(path, ["a", "b"]) == {"a": b"aa", "b": b""}
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar.gz"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_what_is_no_file_is_missing(tmp_path, kind):
    member = {"name": "a", "type": kind, "linkname": "/etc/passwd"}
    path = write(tmp_path / "x.tar.gz", (member, b""))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} lacks a$"):
        read_members(path, ["a"])


@pytest.mark.parametrize("name", ["a", "other"])
def test_an_archive_that_unpacks_to_too_much_is_refused_unread(tmp_path, name):
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(10**13)}
    fields = {"name": name, "pax_headers": sparse | {"GNU.sparse.name": name}}
    path = write(tmp_path / "x.tar.gz", (fields, b"0\n".ljust(512, b"\0")))
    with pytest.raises(ValueError, match=r"x.tar.gz is damaged \(it unpacks to more than 1,073,"):
        read_members(path, ["a"])


def test_a_damaged_archive_is_named(tmp_path):
    path = write(tmp_path / "x.tar.gz", ({"name": "a"}, bytes(range(256)) * 99))
    whole = path.read_bytes()
    for content in (b"", b"no archive", whole[:-40], whole[:100]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"x.tar.gz is damaged \("):
            read_members(path, ["a"])
