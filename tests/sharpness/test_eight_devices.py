"""The loss around the parameters on a mesh of eight devices; curvature is in the other files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from tests.sharpness import problems
from vasso_jax.sharpness import (
    along_random,
    filter_normalized,
    line,
    minibatch_gradients,
    worst_case,
)


def measured(objective, params):
    return {
        "worst": worst_case(objective, params, 0.1, steps=3).losses,
        "random": along_random(objective, params, [0.1], directions=2).increases,
        "line": line(objective, params, filter_normalized(params, seed=0), [0.1]).losses,
        "streams": minibatch_gradients(objective, params, streams=2)(jnp.int32(0)),
    }


@pytest.mark.slow
def test_eight_devices_find_what_one_does():
    objective, params = problems.for_several_devices()
    expected = measured(objective, jax.tree.map(np.float32, params))
    split, shared, mesh = problems.on_all_devices(objective, params, AxisType.Explicit, spread=True)
    with jax.set_mesh(mesh):
        found = measured(split, shared)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
