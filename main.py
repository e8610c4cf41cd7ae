"""python main.py --config=configs/cifar10_vasso.py; python main.py --help says more."""

from vasso_jax.cli.train import main

if __name__ == "__main__":
    main()
