"""Texts that tell objects apart: alike for what is made alike, different otherwise."""

import functools
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vasso_jax import optim
from vasso_jax.train.config.descriptions import describe


class WithAttributes:
    def __init__(self, value):
        self.value, self.itself = value, self


class WithSlots:
    __slots__ = ("unset", "value")

    def __init__(self, value):
        self.value = value


MADE = {
    "linear_schedule": lambda end: optax.linear_schedule(0.0, end, 10),
    "adam": optax.adam,
    "chain": lambda decay: optax.chain(optax.add_decayed_weights(decay), optax.sgd(0.1)),
    "schedule_in_sgd": lambda rate: optax.sgd(optax.cosine_decay_schedule(rate, 100)),
    "vasso": lambda theta: optim.vasso(optax.sgd(0.1), theta=theta),
    "masked": lambda rate: optax.masked(optax.sgd(rate), {"a": True}),
    "multi_steps": lambda rate: optax.MultiSteps(optax.sgd(rate), 2),
    "injected": optax.inject_hyperparams(optax.sgd),
    "injected_schedule": lambda rate: optax.inject_hyperparams(optax.sgd)(
        optax.linear_schedule(rate, 0.0, 9)
    ),
    "key": lambda number: optax.noisy_sgd(0.1, key=jax.random.key(int(100 * number))),
    "attribute": lambda number: WithAttributes([number]),
    "slot": lambda number: WithSlots({"inner": np.float32(number)}),
    "objects": lambda number: np.array([number, "a"], object),
    "nested lambda": lambda number: eval(
        f"lambda tree: jax.tree.map(lambda x: x * {number}, tree)"
    ),
    "lambda": lambda number: eval(f"lambda step: {number}"),
    "default": lambda number: eval(f"lambda step, number={number}: number"),
    "partial": lambda number: functools.partial(optax.sgd, momentum=number),
    "array": lambda number: optax.sgd(jnp.array([number, 1.0])),
    "numpy": np.float32,
    "jitted": lambda number: jax.jit(optax.constant_schedule(number)),
    "module": lambda rate: nn.Dropout(rate),
    "modules": lambda rate: nn.Sequential([nn.Dense(3), nn.relu, nn.Dropout(rate)]),
    "module with a function": lambda rate: nn.Dense(3, kernel_init=nn.initializers.constant(rate)),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_made_alike_reads_alike_and_what_is_not_does_not(name):
    make = MADE[name]
    assert describe(make(0.25)) == describe(make(0.25))
    assert describe(make(0.25)) != describe(make(0.5))
    assert len(describe(make(0.25))) <= 200


def test_lambdas_that_use_other_names_differ():
    assert describe(lambda tree: tree.ndim) != describe(lambda tree: tree.size)


def test_different_functions_differ():
    functions = [nn.relu, nn.gelu, jnp.tanh, optim.matrices, optax.sgd(0.1), optax.lion(0.1), str]
    assert len({describe(function) for function in functions}) == len(functions)


@pytest.mark.slow
def test_a_text_is_the_same_in_another_process():
    code = (
        "import optax, numpy as np, flax.linen as nn;"
        "from vasso_jax.train.config.descriptions import describe;"
        "print(describe(optax.adamw(optax.cosine_decay_schedule(0.1, 9))), describe(nn.Dense(3)),"
        "describe({'relu', 'gelu', 'tanh'}), describe(optax.MultiSteps(optax.sgd(0.1), 2)),"
        "describe(np.random.default_rng(0)), describe(np.array(['x', object()])))"
    )
    texts = {subprocess.check_output([sys.executable, "-c", code]) for _ in range(2)}
    assert len(texts) == 1
    assert b" at 0x" not in texts.pop()


def test_circles_end():
    def forward():
        return forward

    held = []
    held.append(lambda: held)
    assert "forward" in describe(forward)
    assert describe(held[0])
