"""python -m vasso_jax is vasso-jax."""

from vasso_jax.cli.main import main

if __name__ == "__main__":
    main()
