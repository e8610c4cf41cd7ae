"""The whole suite runs on the CPU, as four devices, so that sharding is exercised everywhere."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "4"

import jax
import pytest


@pytest.fixture
def x64():
    """float64 arithmetic for one test."""
    with jax.enable_x64(True):
        yield
