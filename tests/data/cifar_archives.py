"""Small archives in the layout of the official ones of CIFAR, and a server that offers them."""

import io
import tarfile

import numpy as np

from vasso_jax.data.prepare import preparation
from vasso_jax.data.prepare.downloading import sha256_of
from vasso_jax.data.prepare.preparation import Archive

NAMES = {
    "cifar10": {"batches.meta.txt": [f"class {i}" for i in range(10)]},
    "cifar100": {
        "coarse_label_names.txt": [f"coarse_{i}" for i in range(20)],
        "fine_label_names.txt": [f"fine_{i}" for i in range(100)],
    },
}


# (file, split, number of examples)
FILES = {
    "cifar10": [(f"data_batch_{i}.bin", "train", 2) for i in range(1, 6)]
    + [("test_batch.bin", "test", 3)],
    "cifar100": [("train.bin", "train", 10), ("test.bin", "test", 3)],
}


FOLDER = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}


def make_archive(name, path, without=()):
    """Writes the archive.

    Returns:
        {"train": {"image": uint8 [N, 32, 32, 3], "label": [N], "coarse_label": [N]}, "test": ...}
    """
    rng = np.random.default_rng(0)
    files = {file: "\n".join(names) + "\n\n" for file, names in NAMES[name].items()}
    content = {"train": [], "test": []}
    for file, split, n in FILES[name]:
        images = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        labels = {"label": rng.integers(0, len(list(NAMES[name].values())[-1]), n)}
        if name == "cifar100":
            labels = {"coarse_label": rng.integers(0, 20, n)} | labels
        planes = images.transpose(0, 3, 1, 2).reshape(n, -1)
        columns = [column[:, None].astype(np.uint8) for column in labels.values()]
        files[file] = np.concatenate([*columns, planes], axis=1).tobytes()
        content[split].append({"image": images} | labels)
    with tarfile.open(path, "w:gz") as tar:
        # The official archives are not in order either.
        for file in sorted(set(files) - set(without), reverse=True):
            data = files[file] if isinstance(files[file], bytes) else files[file].encode()
            member = tarfile.TarInfo(f"{FOLDER[name]}/{file}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return {
        split: {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        for split, parts in content.items()
    }


def expect(monkeypatch, name, path, url):
    official = preparation._ARCHIVES[name]
    archive = Archive(official.file_name, url, path.stat().st_size, sha256_of(path))
    monkeypatch.setitem(preparation._ARCHIVES, name, archive)
