"""VaSSO on CIFAR-100 with WRN-28-10: the authors' train.sh.

Source     train.sh of https://github.com/BingcongLi/VaSSO (arXiv 2309.15639): --opt vasso-sgd
           --dataset CIFAR100_cutout --seed 3107 --lr 0.1 --weight_decay 1e-3
           --model wideresnet28x10 --rho 0.2 --theta 0.9.
Expected   test top-1 85.06 % in the authors' chart (their best epoch). Not yet run here.
Command    python main.py --config=configs/cifar100_vasso_wrn28_10.py --workdir=runs/cifar100_vasso
"""

from ml_collections import ConfigDict

from configs import cifar10_sgd


def get_config() -> ConfigDict:
    config = cifar10_sgd.get_config()
    config.dataset = "cifar100"
    config.model = "wrn28_10"
    config.optimizer = "vasso"
    config.rho = 0.2
    config.theta = 0.9
    config.lr = 0.1
    config.seed = 3107
    return config
