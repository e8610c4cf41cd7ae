"""Weights from another run, or from PyTorch: evaluation, fine-tuning, refusals."""

import json
import os
import pathlib

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import runs
from tests.models.test_golden_outputs import load as golden
from tests.train.networks import NAME
from vasso_jax.cli import import_torch
from vasso_jax.models import create, from_torch
from vasso_jax.train import UsageError, train
from vasso_jax.train.checkpoints.weights import write_run
from vasso_jax.train.presets import digits as digits_config

pytestmark = pytest.mark.slow


def config(**fields):
    config = digits_config("vasso")
    config.update({"epochs": 0, "model": {"name": NAME}, **fields})
    return config


def write_npz(folder, images, labels):
    folder.mkdir()
    for split in ("train", "test"):
        np.savez(folder / f"{split}.npz", images=images, labels=labels)
    return str(folder)


@pytest.fixture(scope="module")
def digits(unbroken):
    """The folder of a finished run, and its result."""
    workdir, result, _ = unbroken
    return workdir, result


def test_evaluation_only_gives_the_numbers_of_the_run(digits, tmp_path):
    workdir, result = digits
    evaluated = train(config(init_from=str(workdir)), str(tmp_path))
    for name in ("test_top1", "test_loss"):
        np.testing.assert_allclose(evaluated[name], result[name], rtol=1e-5)
    assert (evaluated["epochs"], evaluated["steps"]) == (0, 0)
    # Once more, it is finished.
    assert train(config(init_from=str(workdir)), str(tmp_path)) == evaluated


def params(workdir, step):
    arrays = runs.checkpoint(workdir, step)
    return {name: a for name, a in arrays.items() if name.startswith(("params", "batch_stats"))}


def test_another_number_of_classes_gets_a_new_head_and_all_else_as_it_was(digits, tmp_path):
    workdir, _ = digits
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 8, 8, 1)).astype(np.uint8)
    data_dir = write_npz(tmp_path / "data", images, np.arange(16) % 3)
    fields = {"init_from": str(workdir), "data": {"name": "npz", "dir": data_dir}}
    with pytest.raises(UsageError, match=r"params/head/bias has shape \(10,\) there, \(3,\) here"):
        train(config(**fields), str(tmp_path / "evaluation"))
    # With a rate of next to nothing, what was loaded stays.
    train(
        config(**fields, epochs=1, batch_size=16, base={"name": "sgd", "lr": 1e-30}),
        str(tmp_path / "run"),
    )
    before, after = params(workdir, runs.TOTAL_STEPS), params(tmp_path / "run", 1)
    assert before.keys() == after.keys()
    for name, array in after.items():
        if name.startswith("params/head"):
            assert array.shape[-1] == 3
        elif name.startswith("params"):
            np.testing.assert_allclose(array, before[name], rtol=1e-6, err_msg=name)


def test_weights_of_another_network_are_refused(digits, tmp_path):
    workdir, _ = digits
    fields = {"init_from": str(workdir)}
    longer = config(model={"name": NAME, "hidden": 8}, **fields)
    with pytest.raises(UsageError, match=r"another network: params/hidden/bias is missing there"):
        train(longer, str(tmp_path / "longer"))
    images, labels = np.zeros((8, 8, 8, 3), np.uint8), np.arange(8)
    fields |= {"data": {"name": "npz", "dir": write_npz(tmp_path / "data", images, labels)}}
    with pytest.raises(UsageError, match=r"another network: params/conv/kernel has shape"):
        train(config(**fields), str(tmp_path / "colour"))


@pytest.mark.weekly
def test_weights_from_pytorch_can_be_evaluated(tmp_path, monkeypatch, capsys):
    _, weights, _ = golden("wrn10_1")
    monkeypatch.setattr(import_torch, "_state_dict", lambda path: weights)
    folder = tmp_path / "imported"
    import_torch.main(["wrn10_1", "checkpoint.pth", str(folder)])
    assert f"--config.init_from={folder}" in capsys.readouterr().out

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 32, 32, 3)).astype(np.uint8)
    labels = np.arange(24) % 10
    data_dir = write_npz(tmp_path / "data", images, labels)
    fields = {
        "model": {"name": "wrn10_1"},
        "data": {"name": "npz", "dir": data_dir},
        "batch_size": 32,
    }
    result = train(config(init_from=str(folder), **fields), str(tmp_path / "run"))
    facts = json.loads((tmp_path / "run/dataset.json").read_text())
    pixels = (images / 255 - facts["mean"]) / facts["std"]
    logits = create("wrn10_1", 10).apply(
        from_torch("wrn10_1", weights), jnp.asarray(pixels, jnp.float32), train=False
    )
    expected = -jax.nn.log_softmax(logits)[np.arange(24), labels].mean()
    np.testing.assert_allclose(result["test_loss"], expected, rtol=1e-4)

    with pytest.raises(SystemExit) as end:
        import_torch.main(["wrn10_1", "checkpoint.pth", str(folder)])
    assert end.value.code == 2
    assert "holds a run: give another folder" in capsys.readouterr().err


def test_a_pth_file_is_read_as_tensors_only(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    weights = {"fc.weight": torch.ones(2, 3)}
    path = tmp_path / "checkpoint.pth"
    for content in (weights, {"model": weights, "epoch": 3}, {"state_dict": weights}):
        torch.save(content, path)
        assert torch.equal(import_torch._state_dict(path)["fc.weight"], weights["fc.weight"])
    for content, message in (
        ({"model": pathlib.Path("x")}, "never loaded"),
        ({"epoch": 3}, "holds no state dict"),
        ({}, "holds no state dict"),
        ([weights], "holds no state dict"),
        ({3: weights["fc.weight"]}, "holds no state dict"),
        ({"model": weights | {"inner": weights}}, "holds no state dict"),
        ({"fc.weight": torch.ones(1).expand(10**9, 10)}, r"damaged: fc\.weight has more numbers"),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match=message):
            import_torch._state_dict(path)
    for damaged in (path.read_bytes()[:100], b"", b"no weights"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged") as error:
            import_torch._state_dict(path)
        # Torch's advice would run whatever is in the file.
        assert "weights_only" not in str(error.value)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="it is a named pipe"):
        import_torch._state_dict(path)


def test_without_torch_the_command_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(SystemExit):
        import_torch.main(["wrn10_1", "checkpoint.pth", str(tmp_path / "run")])
    assert "pip install torch" in capsys.readouterr().err


def test_weights_are_written_with_their_bits(tmp_path):
    _, weights, _ = golden("wrn10_1")
    variables = from_torch("wrn10_1", weights)
    write_run(str(tmp_path), variables)
    stored = runs.checkpoint(tmp_path, 0)
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    assert stored.keys() == flat.keys()
    for name, array in flat.items():
        np.testing.assert_array_equal(stored[name], array, err_msg=name)
