"""The curvature of two networks against that of the same networks in PyTorch.

tests/golden/make_hessians.py made the files; nothing here is shared with it but the numbers.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runs import ROOT
from tests.sharpness import problems
from vasso_jax.sharpness import eigenvalues, hessian, mean_loss, trace

pytestmark = pytest.mark.usefixtures("x64")


def mlp(params, batch):
    hidden = jnp.tanh(batch["x"] @ params["0.weight"].T + params["0.bias"])
    return hidden @ params["2.weight"].T + params["2.bias"]


def conv(params, batch):
    y = jax.lax.conv_general_dilated(batch["x"], params["0.weight"], (1, 1), "SAME")
    along = (0, 2, 3)
    scale, bias = (params[name][:, None, None] for name in ("1.weight", "1.bias"))
    normal = (y - y.mean(along, keepdims=True)) / jnp.sqrt(y.var(along, keepdims=True) + 1e-5)
    pooled = jax.nn.softplus(normal * scale + bias).mean((2, 3))
    return pooled @ params["5.weight"].T + params["5.bias"]


@functools.cache
def golden(outputs):
    file = np.load(ROOT / f"tests/golden/hessians/{outputs.__name__}.npz")
    params = {key[7:]: file[key] for key in file if key.startswith("params/")}
    data = {"x": file["x"], "labels": file["y"]}
    objective = mean_loss(outputs, problems.cross_entropy, data, len(data["x"]))
    return file, objective, hessian(objective, params)


@pytest.mark.parametrize("outputs", [mlp, conv])
def test_eigenvalues(outputs):
    file, objective, operator = golden(outputs)
    np.testing.assert_allclose(objective.value(operator.chosen), file["loss"], rtol=1e-12)
    found = eigenvalues(operator, 3, 2, tolerance=1e-9).values
    np.testing.assert_allclose(found, file["eigenvalues"][[0, 1, 2, -2, -1]], rtol=1e-9)
    if "pyhessian_eigenvalues" in file:
        # PyHessian adds 1e-6 to each norm by which it divides.
        np.testing.assert_allclose(found[:3], file["pyhessian_eigenvalues"], rtol=1e-5)


@pytest.mark.parametrize("outputs", [mlp, conv])
def test_traces(outputs):
    file, _, operator = golden(outputs)
    # With a basis of all directions nothing is left to chance.
    exact = trace(operator, 3 * operator.size, method="hutch++")
    # The leaves of a dict are sorted by name, which is not the order of PyTorch's parameters.
    names = [key[7:] for key in file if key.startswith("params/")]
    np.testing.assert_allclose([exact.layers[name] for name in names], file["traces"], atol=1e-9)
    np.testing.assert_allclose(exact.value, file["traces"].sum(), rtol=1e-9)
    assert exact.standard_error < 1e-9
    if "pyhessian_trace" in file:
        value, standard_error = file["pyhessian_trace"]
        assert abs(exact.value - value) < 3 * standard_error
