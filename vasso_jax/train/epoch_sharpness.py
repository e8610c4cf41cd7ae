"""The sharpness of the weights after an epoch, as records beside those of training and evaluation.

    lambda_1    the largest eigenvalue of the Hessian of the training loss
    trace       of that Hessian, Hutchinson's estimate

The loss is that of `vasso_jax.train.objective`, with running statistics, on a fixed draw of
training images. Start and probes are drawn anew from the same seed each time, and no eigenvector is
kept, so a resumed run records the same. `vasso-jax sharpness` measures more, and more precisely.

A measurement takes about 40 products with the Hessian of 500 images, on one device.
"""

from typing import Any

import flax.linen as nn

from vasso_jax import data
from vasso_jax.sharpness.operators import hessian
from vasso_jax.sharpness.spectrum import eigenvalues
from vasso_jax.sharpness.traces import trace
from vasso_jax.train.config.objects import Dataset
from vasso_jax.train.objective import network_loss
from vasso_jax.train.steps.state import TrainState

EXAMPLES, BATCH_SIZE = 500, 100
TOLERANCE, PROBES = 0.05, 10
_SEED = 0


class EpochSharpness:
    """Measures states of a run, on images that it reads once."""

    def __init__(self, model: nn.Module, dataset: Dataset):
        """Draws the images.

        Args:
            model: see `make_train_step`.
            dataset: as it is trained on.

        Raises:
            ValueError: an image is damaged.
        """
        self._model = model
        self._images = data.draw(dataset, "train", EXAMPLES, _SEED)
        self._statistics = dataset.mean, dataset.std

    def measure(self, state: TrainState) -> dict[str, Any]:
        """`lambda_1` and `trace` of the weights, not of their average.

        Raises:
            ValueError: the Hessian is not finite, or the eigenvalue has not converged.
        """
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        objective, params = network_loss(
            self._model, variables, self._images, *self._statistics, batch_size=BATCH_SIZE
        )
        operator = hessian(objective, params)
        largest = eigenvalues(operator, tolerance=TOLERANCE, seed=_SEED)
        estimated = trace(operator, samples=PROBES, seed=_SEED)
        return {"lambda_1": float(largest.values[0]), "trace": float(estimated.value)}
