"""SAM on CIFAR-10 with ResNet-18, to compare with VaSSO.

Source     Foret et al., ICLR 2021, arXiv 2010.01412; setting of cifar10_vasso.py.
Expected   test top-1 96.58 % in the VaSSO authors' chart (their best epoch); an independent rerun
           found 96.73 +- 0.06 %. Not yet run here to the end.
Command    python main.py --config=configs/cifar10_sam.py --workdir=runs/cifar10_sam
"""

from ml_collections import ConfigDict

from configs import cifar10_sgd


def get_config() -> ConfigDict:
    config = cifar10_sgd.get_config()
    config.optimizer = "sam"
    config.rho = 0.1
    return config
