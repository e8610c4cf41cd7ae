"""Options of XLA with which the trainer compiles its programs, by platform."""

from typing import Any

Options = dict[str, Any] | None


def for_steps(device: Any, *, deterministic: bool = False) -> Options:
    """For the train and evaluation steps on such a device.

    On CPUs, jaxlib 0.10 and 0.11 remove optimization barriers too early. Without them,
    rematerialisation saves no memory, and gradients of convolutions are slower.

    Args:
        device: the first of a mesh.
        deterministic: on GPUs, without operations whose result differs from run to run, such as
            sums by atomic additions, and without the timing that picks algorithms.
    """
    if device.platform == "cpu":
        return {"xla_disable_hlo_passes": "cse_barrier_expander"}
    if device.platform == "gpu" and deterministic:
        return {"xla_gpu_deterministic_ops": True}
    return None


def check_deterministic(device: Any) -> None:
    """Raises ValueError where `deterministic` has no effect."""
    if device.platform != "gpu":
        raise ValueError(
            f"deterministic has no effect on {device.platform} devices, whose operations all are: "
            "leave it out"
        )


def check_repeatable(device: Any, *, deterministic: bool) -> None:
    """Raises ValueError where the same step can come out differently on a sound device."""
    if device.platform == "gpu" and not deterministic:
        raise ValueError(
            "recheck_every_steps compares the bits of a step that is computed twice, which on "
            "GPUs are the same only with deterministic=True: set that, or leave it out"
        )


def for_initial_state(device: Any) -> Options:
    """For a program that runs once: on CPUs it takes a third of the time to compile."""
    return {"xla_backend_optimization_level": 1} if device.platform == "cpu" else None
