"""Measurements as `vasso-jax sharpness` would have made them."""

from vasso_jax.runs import Measurement


def measurement(step=20, **fields):
    usual = {
        "kind": "hessian",
        "settings": {"largest": 5, "loss": {"examples": 8, "sizes": [1, 2]}},
        "figures": {"lambda_1": 12.5, "lambda_min": -0.5},
        "details": {"values": [12.5, None]},
        "seconds": 1.5,
    }
    return Measurement(step=step, **(usual | fields))


def trace(value, step=20):
    details = {"standard_errors": {"trace": 0.25}}
    return measurement(step, kind="trace", settings={}, figures={"trace": value}, details=details)
