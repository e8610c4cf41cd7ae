# Copyright 2026 The vasso_jax authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
# ==============================================================================
"""Variance-suppressed sharpness-aware optimization (VaSSO).

From "Enhancing Sharpness-Aware Optimization Through Variance Suppression"
(https://arxiv.org/abs/2309.15639) by Bingcong Li and Georgios B. Giannakis.

SAM perturbs the parameters along the gradient of one minibatch, most of which
can be noise. VaSSO perturbs them along an exponential moving average of these
gradients instead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import jax
import jax.numpy as jnp
import numpy as np
from optax._src import base
from optax._src import numerics
from optax._src import utils
import optax.tree


class VaSSOState(NamedTuple):
  """State of the `GradientTransformation` returned by `vasso`.

  Attributes:
    count: int32 scalar, number of finite gradients that the average holds.
    direction: moving average of the gradients, along which the parameters are
      perturbed; a tree like the parameters.
    opt_state: state of the optimizer that is wrapped.
  """

  count: jax.Array
  direction: base.Updates
  opt_state: base.OptState


def _at_least_float32(x: jax.Array) -> jax.Array:
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def vasso(
    optimizer: base.GradientTransformation,
    rho: jax.typing.ArrayLike = 0.05,
    theta: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-7,
    accumulator_dtype: Optional[Any] = None,
) -> base.GradientTransformationExtraArgs:
  r"""Variance-suppressed sharpness-aware optimization.

  Let :math:`g_t` be the gradient of the loss :math:`f` at the parameters
  :math:`w_t` on the minibatch of step :math:`t`. A step is

  .. math::

    \begin{align*}
      d_t &\leftarrow (1-\theta) \, d_{t-1} + \theta \, g_t,
        \quad d_0 = g_0 \\
      u_t &\leftarrow \text{optimizer} \left( \nabla f \left( w_t +
        \rho \, d_t / (\lVert d_t \rVert + \varepsilon) \right) \right)
    \end{align*}

  on the same minibatch, where :math:`u_t` is the update of :math:`w_t`. It
  costs two gradients and keeps one copy of the parameters.

  Args:
    optimizer: the optimizer that takes the step, with weight decay, clipping
      and the learning rate in it.
    rho: radius of the perturbation, non-negative.
    theta: weight of the new gradient in the average, in [0, 1]. 1 is SAM;
      smaller values suppress more of the noise. The default is the authors'.
    eps: a small constant added to the norm, for gradients that are zero.
    accumulator_dtype: optional dtype of the average. If ``None``, it is
      inferred from the parameters.

  Returns:
    The corresponding :class:`optax.GradientTransformationExtraArgs`.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> loss = lambda params: jnp.sum(params ** 2)
    >>> grad_fn = lambda params, _: jax.grad(loss)(params)
    >>> opt = optax.contrib.vasso(optax.sgd(0.1), rho=0.05, theta=0.4)
    >>> params = jnp.array([3.0, 4.0])
    >>> state = opt.init(params)
    >>> for _ in range(2):
    ...   updates, state = opt.update(
    ...       grad_fn(params, 0), state, params, grad_fn=grad_fn
    ...   )
    ...   params = optax.apply_updates(params, updates)
    ...   print(f'Objective function: {loss(params):.2f}')
    Objective function: 15.92
    Objective function: 10.13

  References:
    Li and Giannakis, `Enhancing Sharpness-Aware Optimization Through Variance
    Suppression <https://arxiv.org/abs/2309.15639>`_, 2023

  .. note::
    As for :func:`optax.contrib.sam` in its opaque mode, ``update`` must be
    called with ``grad_fn``, a function of the parameters and of the number of
    the ascent step (here always 0) that returns the gradients of the loss on
    the minibatch of this step. ``rho`` and ``theta`` may follow a schedule by
    :func:`optax.inject_hyperparams`.

    The average leaves out gradients that are not finite. The gradient at the
    perturbed parameters goes to ``optimizer`` as it is; where it may not be
    finite, use ``vasso(optax.apply_if_finite(optimizer, n))``.
    :func:`optax.apply_if_finite` around ``vasso`` would check the gradient at
    the parameters only.

  .. warning::
    :class:`optax.MultiSteps` around ``vasso`` averages the gradients at the
    parameters, but takes the step of the last minibatch alone. Accumulate in
    ``vasso(optax.MultiSteps(optimizer, k).gradient_transformation())``, where
    each minibatch has a perturbation of its own.
  """
  for name, value, highest in (('rho', rho, jnp.inf), ('theta', theta, 1.0)):
    # Values that are injected may be traced.
    if isinstance(value, jax.core.Tracer):
      continue
    if not 0 <= np.asarray(value) <= highest:
      raise ValueError(f'{name} must be in [0, {highest}], got {value}.')
  optimizer = base.with_extra_args_support(optimizer)
  accumulator_dtype = utils.canonicalize_dtype(accumulator_dtype)

  def init_fn(params: base.Params) -> VaSSOState:
    return VaSSOState(
        count=jnp.zeros([], jnp.int32),
        direction=optax.tree.zeros_like(params, dtype=accumulator_dtype),
        opt_state=optimizer.init(params),
    )

  def update_fn(
      updates: base.Updates,
      state: VaSSOState,
      params: Optional[base.Params] = None,
      *,
      grad_fn: Optional[Callable[[base.Params, int], base.Updates]] = None,
      **extra_args: Any,
  ) -> tuple[base.Updates, VaSSOState]:
    if params is None:
      raise ValueError(base.NO_PARAMS_MSG)
    if grad_fn is None:
      raise ValueError('vasso.update must be called with grad_fn.')

    # The average starts at the first gradient, so it has no bias to correct.
    weight = jnp.where(state.count == 0, 1.0, theta)
    direction = optax.tree.cast_like(
        jax.tree.map(
            lambda d, g: d + weight * (g - d), state.direction, updates
        ),
        state.direction,
    )
    # If the gradient is not finite, neither is this.
    leaves = jax.tree.leaves(direction)
    is_finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(d)) for d in leaves]))
    count, direction = optax.tree.where(
        is_finite,
        (numerics.safe_increment(state.count), direction),
        (state.count, state.direction),
    )
    wide = jax.tree.map(_at_least_float32, direction)
    perturbed = optax.tree.cast_like(
        optax.tree.add_scale(params, rho / (optax.tree.norm(wide) + eps), wide),
        params,
    )
    updates, opt_state = optimizer.update(
        grad_fn(perturbed, 0), state.opt_state, params, **extra_args
    )
    return updates, VaSSOState(
        count=count, direction=direction, opt_state=opt_state
    )

  return base.GradientTransformationExtraArgs(init_fn, update_fn)
