"""ResNet-50 on ImageNet, by SGD, SAM, ASAM or VaSSO.

Source     Goyal et al., arXiv 1706.02677, for SGD: lr 0.1 for each 256 images, 5 epochs of warm-up,
           90 epochs, momentum 0.9, weight decay 1e-4 (here of BatchNorm's parameters, too, and no
           block starts at zero); here with a cosine and batch 1024. rho 0.05
           is SAM's own for ImageNet (arXiv 2010.01412), ASAM's 1 is its own (arXiv 2102.11600).
           The VaSSO paper (arXiv 2309.15639) has this network; its setting is not public code.
Expected   SGD about 76 %, by the sources above; not yet run here.
Command    python main.py --config=configs/imagenet_resnet50.py:vasso --config.data.dir=DIR
           (or :none for SGD alone, :sam, :asam), in the run folder runs/imagenet_resnet50_vasso
"""

from ml_collections import ConfigDict

from vasso_jax.train.presets import imagenet


def get_config(method: str = "vasso") -> ConfigDict:
    config = imagenet("resnet50_imagenet", method)
    config.base = {"name": "sgd", "lr": 0.4, "weight_decay": 1e-4}
    config.schedule.warmup_epochs = 5.0
    config.batch_size = 1024
    config.epochs = 90
    return config
