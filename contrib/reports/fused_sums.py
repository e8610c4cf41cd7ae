"""A sum over a matrix product that XLA:CPU computes wrongly. Needs jax and NumPy only."""

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

x = np.random.default_rng(0).normal(size=(1000, 16)).astype(np.float32)


def sum_of_squares(x, c):
    return jnp.sum((x @ jnp.full((16, 8), c)) ** 2)


c = np.float32(1.3)
print("jaxlib", jaxlib.__version__)
print("exact ", 8 * np.sum((1.3 * x.sum(1, dtype=np.float64)) ** 2))
print("eager ", sum_of_squares(x, c))
print("jitted", jax.jit(sum_of_squares)(x, c))
without = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    )
}
print(
    "jitted, without YNNPACK's reductions", jax.jit(sum_of_squares, compiler_options=without)(x, c)
)
