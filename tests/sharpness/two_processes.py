"""A program of two processes: curvature of a loss whose batches and parameters they share.

    python -m tests.sharpness.two_processes ADDRESS NUMBER

Prints the results as JSON.
"""

import json
import sys

import jax
from jax.sharding import AxisType

from tests.sharpness import problems
from vasso_jax.sharpness import eigenvalues, hessian, spectral_density, trace


def measured(objective, params):
    operator = hessian(objective, params)
    return {
        "eigenvalues": eigenvalues(operator, 2, 1).values.tolist(),
        "trace": trace(operator, 9, method="hutch++").value,
        "nodes": spectral_density(operator, 1, 5).nodes.tolist(),
    }


def main():
    address, process = sys.argv[1:]
    jax.distributed.initialize(address, 2, int(process))
    objective, params = problems.for_several_devices()
    split, shared, mesh = problems.on_all_devices(objective, params, AxisType.Auto, spread=True)
    with jax.set_mesh(mesh):
        print(json.dumps(measured(split, shared)))


if __name__ == "__main__":
    main()
