"""ViT-S/32 on ImageNet, by AdamW alone (:none), with SAM, ASAM or VaSSO.

Source     Beyer et al., arXiv 2205.01580, for the network and AdamW: lr 1e-3 at batch 1024, 10,000
           steps of warm-up (8 epochs), 90 epochs, decoupled weight decay 1e-4 (there not scaled by
           the learning rate; 0.1 here, scaled by it), gradients clipped to norm 1. Their
           RandAugment and MixUp are not in here. rho 0.05 as for ResNet-50. The VaSSO paper (arXiv
           2309.15639) has this network; its setting is not public code.
Expected   not yet run here.
Command    python main.py --config=configs/imagenet_vit_s32.py:vasso --config.data.dir=DIR
           (or :none, :sam, :asam), in the run folder runs/imagenet_vit_s32_vasso
"""

from ml_collections import ConfigDict

from vasso_jax.train.presets import imagenet


def get_config(method: str = "vasso") -> ConfigDict:
    config = imagenet("vit_s32", method)
    config.base = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.1, "clip_norm": 1.0}
    config.schedule.warmup_epochs = 8.0
    config.batch_size = 1024
    config.epochs = 90
    return config
