"""Training: `train(config, workdir)` runs an experiment from its config to its last checkpoint.

`default_config()` is what a config begins with, `check(config)` the plan that it makes, and
`find_lr(config)` a short training that looks for its learning rate. What needs JAX loads at the
first use, so that a config file can be read, and refused, without.
"""

import importlib
from typing import TYPE_CHECKING, Any

from vasso_jax.train.config.fields import default_config
from vasso_jax.train.errors import DataError, Stopped, UsageError, usage_errors

if TYPE_CHECKING:
    from vasso_jax.train.lr_finder import RangeTest, find_lr
    from vasso_jax.train.plan import Plan, check
    from vasso_jax.train.run import run_plan, train

__all__ = [
    "DataError",
    "Plan",
    "RangeTest",
    "Stopped",
    "UsageError",
    "check",
    "default_config",
    "find_lr",
    "run_plan",
    "train",
    "usage_errors",
]
_MODULES = {
    "Plan": "plan",
    "RangeTest": "lr_finder",
    "check": "plan",
    "find_lr": "lr_finder",
    "run_plan": "run",
    "train": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
