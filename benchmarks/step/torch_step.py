"""VaSSO's training step in plain PyTorch, to compare with; needs `torch`.

The published step: forward and backward, an in-place move of the parameters by the perturbation,
forward and backward again, the move back, and the base optimizer's step (SGD with momentum and
decay). `tuned` is the same arithmetic as an experienced user would run it: channels last, bfloat16
autocast, `torch.compile` of the network (on a GPU with CUDA graphs) and a fused base optimizer.
Otherwise it is eager mode.
Both update all parameters in one call (`torch._foreach_*`) and let cuDNN choose its algorithms.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.step import torch_networks


def make_step(
    model: str,
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
    settings: Mapping[str, Any],
    *,
    precision: str,
    tuned: bool,
) -> Callable[[], None]:
    """A function that starts one training step; `wait` waits for all started steps.

    Args:
        model: name of a network.
        images: float32 [B, H, W, C].
        labels: int [B].
        classes: size of the last layer.
        settings: of the trainer's plan, for the optimizer: the method `none`, `sam` or `vasso` on
            SGD.
        precision: float32, tf32 (CUDA only) or bfloat16 (autocast).
        tuned: see above.
    """
    method, of_base = settings["method"], settings["base"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    memory_format = torch.channels_last if tuned else torch.contiguous_format
    network = torch_networks.create(model, images.shape[1], classes).to(device)
    network = network.to(memory_format=memory_format).train()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
    x, y = x.contiguous(memory_format=memory_format), torch.from_numpy(labels).long().to(device)
    params = list(network.parameters())
    base = torch.optim.SGD(
        params,
        lr=of_base["lr"],
        momentum=of_base["momentum"],
        nesterov=of_base["nesterov"],
        weight_decay=of_base["weight_decay"],
        fused=tuned or None,
    )
    torch.backends.cudnn.benchmark = True  # as XLA tries several algorithms
    # With "max-autotune" ResNet-18 was not measured after 150 s on an H200.
    mode = "reduce-overhead" if device == "cuda" else "default"
    forward = torch.compile(network, mode=mode) if tuned else network
    averages: list[torch.Tensor] = []
    bfloat16 = precision == "bfloat16"

    def backward() -> None:
        base.zero_grad()
        torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            loss = torch.nn.functional.cross_entropy(forward(x).float(), y)
        loss.backward()

    @torch.no_grad()
    def perturbation() -> list[torch.Tensor]:
        directions = [p.grad for p in params]
        if method["name"] == "vasso":
            if not averages:
                averages.extend(g.clone() for g in directions)
            torch._foreach_lerp_(averages, directions, method["theta"])
            directions = averages
        norm = torch.stack(torch._foreach_norm(directions)).norm()
        moves = torch._foreach_mul(directions, method["rho"] / (norm + 1e-7))
        torch._foreach_add_(params, moves)
        return moves

    def step() -> None:
        # Set in every step: another step measured in turn may need other values.
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        backward()
        if method["name"] != "none":
            moves = perturbation()
            backward()
            with torch.no_grad():
                torch._foreach_sub_(params, moves)
        base.step()

    return step


def wait() -> None:
    """Returns once all steps are done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
