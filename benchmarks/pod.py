"""What a TPU pod would do in a train step: the trainer's own, compiled for one without having any.

    python -m benchmarks.pod [--models resnet50_imagenet ...] [--topologies v5e:2x2 ...]
        [--methods sgd vasso] [--fsdp 1 4] [--per_device 128] [--out pod.json]

The compiler comes with libtpu (pip install -e '.[tpu]') and needs no TPU. Of each case, one device's
share of the compiled program: FLOPs, bytes that it moves to and from memory, memory that it needs, and
what it exchanges with other devices. With --out, cases that the file holds are not compiled again.
The settings are those of configs/imagenet_resnet50.py and imagenet_vit_s32.py; the batch is streamed.
"""

import argparse
import importlib
import itertools
import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from rich.console import Console
from rich.table import Table

from benchmarks.collectives import collectives
from vasso_jax import data
from vasso_jax.train.experiment import create_model, create_optimizer
from vasso_jax.train.mesh import batch_sharding, make_mesh, with_shardings
from vasso_jax.train.schedules import make_schedule
from vasso_jax.train.state import create_state, state_shardings
from vasso_jax.train.step import make_train_step
