"""python main.py --config=configs/cifar10_vasso.py; python main.py --help says more."""

from vasso_jax.cli.main import run

if __name__ == "__main__":
    run("train")
