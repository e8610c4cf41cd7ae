"""Networks in Flax Linen: `create(name, num_classes)`, then `model.init` and `model.apply`.

Every network takes NHWC images of any channel count, and `train`; it returns float32 logits.
Parameters are float32, and so are BatchNorm's statistics in the `batch_stats` collection (a ViT has
none). `from_torch(name, state_dict)` returns the variables of trained PyTorch networks; `to_torch`
is the way back.
"""

from vasso_jax.models.names import NETWORKS, constructor, create
from vasso_jax.models.pyramidnet import PyramidNet
from vasso_jax.models.resnet import ResNet
from vasso_jax.models.torch_weights import from_torch, to_torch
from vasso_jax.models.vgg import VGG
from vasso_jax.models.vit import ViT
from vasso_jax.models.wide_resnet import WideResNet

__all__ = [
    "NETWORKS",
    "VGG",
    "PyramidNet",
    "ResNet",
    "ViT",
    "WideResNet",
    "constructor",
    "create",
    "from_torch",
    "to_torch",
]
