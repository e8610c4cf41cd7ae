"""Sharpness-aware optimizers with variance suppression (VaSSO), and a trainer for image models."""

# Not that of `typing`, which takes longer to load than everything else here.
TYPE_CHECKING = False

__version__ = "0.2.0"

__all__ = ["__version__", "load_run"]

if TYPE_CHECKING:
    from vasso_jax.inference import load_run


def __getattr__(name: str) -> object:
    # What needs JAX loads at the first use.
    if name == "load_run":
        from vasso_jax.inference import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
