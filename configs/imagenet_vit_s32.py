"""ViT-S/32 on ImageNet, by AdamW alone (:sgd), with SAM, ASAM or VaSSO.

Source     Beyer et al., arXiv 2205.01580, for the network and AdamW: lr 1e-3 at batch 1024, 10,000
           steps of warm-up (8 epochs), 90 epochs, decoupled weight decay 1e-4 (there not scaled by
           the learning rate; 0.1 here, scaled by it), gradients clipped to norm 1. Their
           RandAugment and MixUp are not in here. rho 0.05 as for ResNet-50. The VaSSO paper (arXiv
           2309.15639) has this network; its setting is not public code.
Expected   not yet run here.
Command    python main.py --config=configs/imagenet_vit_s32.py:vasso --config.data_dir=DIR
           (or :sgd, :sam, :asam), in the run folder runs/imagenet_vit_s32_vasso
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(optimizer: str = "vasso") -> ConfigDict:
    config = imagenet.get_config("vit_s32", optimizer, rho=0.05, asam_rho=1.0)
    config.base = "adamw"
    config.lr = 1e-3
    config.batch_size = 1024
    config.warmup_epochs = 8.0
    config.weight_decay = 0.1
    config.clip_norm = 1.0
    config.epochs = 90
    return config
