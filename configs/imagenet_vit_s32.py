"""ViT-S/32 on ImageNet, by AdamW alone (:none), with SAM, ASAM or VaSSO.

Source     Beyer et al., arXiv 2205.01580, for the network, AdamW and the augmentation: lr 1e-3 at
           batch 1024, 10,000 steps of warm-up (8 epochs), 90 epochs, decoupled weight decay 1e-4
           (there not scaled by the learning rate; 0.1 here, scaled by it), gradients clipped to
           norm 1, mixup 0.2, RandAugment with 2 operations at level 10. That is the largest level
           of their code, big_vision, and magnitude 30 here; docs/data.md says how the two sets of
           operations differ. rho 0.05 as for ResNet-50. The VaSSO paper (arXiv 2309.15639) has this
           network; its setting is not public code.
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
    config.augment.policy = "randaugment"
    config.augment.operations = 2
    config.augment.magnitude = 30
    config.augment.mixup_alpha = 0.2
    config.batch_size = 1024
    config.epochs = 90
    return config
