"""The trainer's train step, compiled, on random images that are the same in every step."""

import ast
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jaxlib
import numpy as np

from vasso_jax import data
from vasso_jax.train import check, default_config
from vasso_jax.train.devices.sharding import batch_sharding
from vasso_jax.train.plan import DataSpec, Plan
from vasso_jax.train.steps import compiler_options

# What the results call the base optimizer alone.
BASE_ALONE = "sgd"
_MATMUL_PRECISION = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}


@dataclasses.dataclass(frozen=True)
class Workload:
    """A network and its training images, for SGD with momentum and weight decay.

    Attributes:
        model: name of the network.
        image_size: side of the images, in pixels.
        batch_size: over all devices.
        classes: size of the last layer.
        precision: of the arithmetic: float32, tf32 or bfloat16; parameters are float32.
    """

    model: str
    image_size: int
    batch_size: int
    classes: int
    precision: str

    def plan(self, method: str) -> Plan:
        """The trainer's plan, without augmentation and at a constant learning rate.

        Args:
            method: see `method_section`.

        Raises:
            ValueError: an unknown network, method or field, a batch that cannot be divided over
                the devices, or a precision that they do not support.
        """
        if self.precision == "tf32" and jax.default_backend() != "gpu":
            raise ValueError("tf32 is a mode of NVIDIA GPUs: choose float32 or bfloat16")
        dtype = "bfloat16" if self.precision == "bfloat16" else "float32"
        config = default_config()
        config.model = {"name": self.model, "dtype": dtype}
        config.method = method_section(method)
        config.schedule.name = "constant"
        config.batch_size = self.batch_size
        return check(config)

    @property
    def spec(self) -> DataSpec:
        """What the program needs to know about the images."""
        return DataSpec(
            num_train=self.batch_size,
            num_classes=self.classes,
            image_shape=(self.image_size, self.image_size, 3),
            mean=(0.5,) * 3,
            std=(1.0,) * 3,
        )

    @property
    def batch(self) -> data.Batch:
        """Images uint8 [B, H, W, 3] and labels int32 [B], on the host."""
        rng = np.random.default_rng(0)
        shape = (self.batch_size, *self.spec.image_shape)
        images = rng.integers(0, 256, shape).astype(np.uint8)
        labels = rng.integers(0, self.classes, self.batch_size).astype(np.int32)
        return data.Batch(images, labels)

    @property
    def matmul_precision(self) -> Any:
        """The context to trace and compile in."""
        return jax.default_matmul_precision(_MATMUL_PRECISION[self.precision])


@dataclasses.dataclass
class Step:
    """A compiled step with its state.

    Attributes:
        function: the jitted function.
        compiled: `(state, batch) -> state`.
        state: its buffers are reused by each step.
        batch: the same in each step.
        flops: of one step, by XLA's count of the program as written; passes that are skipped in
            some steps are counted in full.
        memory_bytes: memory on the device while the step runs: arguments, results and temporaries,
            as the compiler reports them.
    """

    function: Callable[..., Any]
    compiled: Callable[..., Any]
    state: Any
    batch: Any
    flops: float = 0.0
    memory_bytes: int = 0

    def run(self, steps: int) -> None:
        """Takes that many steps, and waits for the last."""
        for _ in range(steps):
            self.state = self.compiled(self.state, self.batch)
        jax.block_until_ready(self.state)


def method_section(method: str) -> dict[str, Any]:
    """The section `method` of a config.

    Args:
        method: a name, optionally with fields, such as `vasso refresh_every=5`; `sgd` is the base
            alone. A last word `again` is ignored, so that a method can be timed twice.

    Raises:
        ValueError: a word after the name is not FIELD=VALUE.
    """
    name, *fields = method.removesuffix(" again").split()
    section: dict[str, Any] = {"name": "none" if name == BASE_ALONE else name}
    for word in fields:
        field, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{method!r}: fields of a method are given as FIELD=VALUE")
        try:
            section[field] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            section[field] = value  # a string
    return section


def make_step(workload: Workload, method: str) -> Step:
    """Compiles the trainer's step and creates its state.

    Args:
        workload: what to train on.
        method: see `method_section`.

    Raises:
        ValueError: see `Workload.plan`.
    """
    plan = workload.plan(method)
    program = plan.program(workload.spec)
    batch = jax.device_put(workload.batch, batch_sharding(plan.mesh))
    return compile_step(workload, program.train_step, program.create_state(), batch)


def compile_step(workload: Workload, function: Any, state: Any, batch: Any) -> Step:
    """Compiles `function`, a jitted `(state, batch) -> state`, for these arguments."""
    with workload.matmul_precision:
        lowered = function.lower(state, batch)
        compiled = lowered.compile()
    memory = compiled.memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return Step(
        function=function,
        compiled=compiled,
        state=state,
        batch=batch,
        flops=flops(lowered),
        memory_bytes=used - memory.alias_size_in_bytes,
    )


def rejit(step: Step, function: Callable[..., Any], **how: Any) -> Callable[..., Any]:
    """`function`, made of that of `step`, jitted for the same device with the trainer's options."""
    device = min(jax.tree.leaves(step.batch)[0].devices(), key=lambda device: device.id)
    return jax.jit(function, compiler_options=compiler_options.for_steps(device), **how)


def flops(lowered: Any) -> float:
    """Of the program as written, over all devices.

    XLA's count by the CPU client: those of GPUs and TPUs count only compiled programs.
    """
    module = lowered.compiler_ir("hlo").as_hlo_module()
    client = jax.devices("cpu")[0].client
    return jaxlib._jax.hlo_module_cost_analysis(client, module)["flops"]
