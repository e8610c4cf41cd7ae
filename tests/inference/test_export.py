"""A run as a file: used where nothing of this package is, and weights under other names."""

import dataclasses
import importlib.metadata
import json
import pathlib
import subprocess
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from vasso_jax import data, load_run
from vasso_jax.cli import export
from vasso_jax.inference import exported_program, named_weights
from vasso_jax.models import ViT
from vasso_jax.train import default_config, train

pytestmark = pytest.mark.slow

# All that the program may need.
PACKAGES = ("jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy", "flatbuffers")
USE = """
import sys
sys.path[:0] = [sys.argv[1]]
import jax, numpy as np
for name in ("vasso_jax", "flax", "optax"):
    try:
        __import__(name)
        sys.exit(f"{name} is there")
    except ModuleNotFoundError:
        pass
exported = jax.export.deserialize(bytearray(open(sys.argv[2], "rb").read()))
assert exported.platforms == ("cpu", "cuda", "tpu"), exported.platforms
images = np.load(sys.argv[3])
found = [exported.call(images), exported.call(images[:1])]
np.savez(sys.argv[4], *found)
"""


@pytest.fixture
def bare(tmp_path):
    """A folder with these packages alone, to be the whole path of a process."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for package in PACKAGES:
        files = importlib.metadata.files(package) or ()
        tops = {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            where = pathlib.Path(importlib.metadata.distribution(package).locate_file(top))
            if where.exists():
                (folder / top).symlink_to(where)
    return folder


def test_a_program_runs_where_only_jax_is(unbroken, bare, tmp_path, capsys):
    file = tmp_path / "digits.jaxexport"
    export.main([str(unbroken[0]), str(file)])
    out = capsys.readouterr().out
    assert "images: uint8 [N, 8, 8, 1]" in out
    assert json.loads(out.splitlines()[-1].removeprefix("classes: ")) == list("0123456789")
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 1)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    arguments = [bare, file, tmp_path / "images.npy", tmp_path / "found.npz"]
    # -I and -S: neither this folder nor what is installed is on the path.
    subprocess.run([sys.executable, "-I", "-S", "-c", USE, *map(str, arguments)], check=True)
    found = np.load(tmp_path / "found.npz")
    expected = load_run(unbroken[0]).predict(images)
    np.testing.assert_allclose(found["arr_0"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["arr_1"], expected[:1], rtol=1e-4, atol=1e-6)


def test_weights_as_safetensors(unbroken, tmp_path):
    file = tmp_path / "weights.safetensors"
    export.main([str(unbroken[0]), str(file)])
    run = load_run(unbroken[0])
    weights = load_file(file)
    assert weights.keys() == named_weights(run).keys()
    kernel = run.variables["params"]["conv"]["kernel"]
    np.testing.assert_array_equal(weights["params.conv.kernel"], kernel)
    with safe_open(file, "numpy") as opened:
        about = opened.metadata()
    assert json.loads(about["class_names"]) == list("0123456789")
    assert about["step"] == str(run.step)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "{tmp}/p.jaxexport", "--torch"], "--torch is for weights"),
        (["{run}", "{tmp}/w.safetensors", "--torch"], "no conversion of a Small to PyTorch"),
        (["{run}", "{tmp}/no/p.jaxexport"], "cannot be written"),
        (["{run}@3", "{tmp}/p.jaxexport"], "no checkpoint of step 3"),
        (["{tmp}/none", "{tmp}/p.jaxexport"], "there is no"),
        (["{run}", "{tmp}/weights.pth"], "must end in .jaxexport or .safetensors"),
        (["{run}", "{run}/p.jaxexport"], "lies in the run folder"),
        (["{run}", "{tmp}"], "must end in"),
    ],
)
def test_what_it_refuses(unbroken, tmp_path, arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        export.main([a.format(run=unbroken[0], tmp=tmp_path) for a in arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.weekly
def test_a_vit_can_be_exported(tmp_path):
    rng = np.random.default_rng(0)
    pair = rng.integers(0, 256, (8, 64, 64, 3)).astype(np.uint8), np.arange(8) % 2
    config = default_config()
    config.update({"epochs": 1, "batch_size": 8, "data": {}})
    config.model = {"name": "tests.inference.test_export:tiny_vit"}
    train(config, str(tmp_path / "run"), dataset=data.from_arrays("own", pair, pair))
    run = load_run(tmp_path / "run")
    program = jax.export.deserialize(bytearray(exported_program(run)))
    expected = run.predict(pair[0][:3])
    np.testing.assert_allclose(program.call(pair[0][:3]), expected, rtol=1e-4, atol=1e-6)


def tiny_vit(num_classes):
    return ViT(32, width=8, depth=1, heads=2, num_classes=num_classes)


class Counting(nn.Module):
    """Takes the number of images as a number of Python."""

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(10)(x.reshape(len(x), -1))


def test_a_network_that_counts_its_images_is_refused(unbroken):
    model = Counting()
    variables = model.init(jax.random.key(0), np.zeros((1, 8, 8, 1)), train=False)
    run = dataclasses.replace(load_run(unbroken[0]), model=model, variables=variables)
    with pytest.raises(ValueError, match=r"network Counting cannot be exported.* len\(x\)"):
        exported_program(run)


def test_a_link_stays_a_link(unbroken, tmp_path):
    target, link = tmp_path / "target.safetensors", tmp_path / "link.safetensors"
    target.touch()
    link.symlink_to(target)
    export.main([str(unbroken[0]), str(link)])
    assert link.is_symlink()
    assert load_file(target)
