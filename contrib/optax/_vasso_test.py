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
"""Tests for the VaSSO optimizer in `_vasso.py`.

The second class asks of it what `_common_test.py` asks of all contributed
optimizers, which cannot be called there as they have no `grad_fn`.
"""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
from optax._src import alias
from optax._src import combine
from optax._src import numerics
from optax._src import test_utils
from optax._src import update
from optax._src import utils
from optax.contrib import _sam
from optax.contrib import _vasso
from optax.schedules import _inject
from optax.transforms import _accumulation
import optax.tree


def _parabola(dtype):
  target = jnp.array([1.0, -1.0, 1.0], dtype)
  return (
      jnp.array([-1.0, 10.0, 1.0], dtype),
      target,
      lambda params: jnp.sum(numerics.abs_sq(params - target)),
  )


def _rosenbrock(dtype):
  return (
      jnp.zeros(2, dtype),
      jnp.ones(2, dtype),
      lambda params: numerics.abs_sq(1.0 - params[0])
      + 100.0 * numerics.abs_sq(params[1] - params[0] ** 2),
  )


def _mixed_tensors(dtype):
  target = (
      jnp.array([1.0, -1.0, 2.0], dtype),
      jnp.array([[1.0, 0.0], [-1.0, 1.0]], dtype),
  )
  return (
      optax.tree.zeros_like(target),
      target,
      lambda params: optax.tree.norm(
          optax.tree.sub(params, target), squared=True
      ),
  )


def _step(opt, loss, params, state, **extra_args):
  grad_fn = lambda params, _: jax.grad(loss)(params)
  updates, state = opt.update(
      grad_fn(params, 0), state, params, grad_fn=grad_fn, **extra_args
  )
  return update.apply_updates(params, updates), state


class VaSSOTest(parameterized.TestCase):

  def test_equations(self):
    """Follows the equations of the paper by hand, on minibatches that vary."""
    rho, theta, learning_rate = 0.1, 0.3, 0.2
    scales = np.array([[1.0, 3.0], [2.0, -1.0], [0.5, 4.0]], np.float32)
    opt = _vasso.vasso(alias.sgd(learning_rate), rho, theta)
    params = jnp.array([1.0, -2.0])
    state = opt.init(params)
    expected, direction = np.array([1.0, -2.0]), None
    for scale in scales:
      params, state = _step(
          opt, lambda w, scale=scale: jnp.sum(scale * w**3) / 3, params, state
      )
      gradient = scale * expected**2
      direction = (
          gradient
          if direction is None
          else (1 - theta) * direction + theta * gradient
      )
      epsilon = rho * direction / (np.linalg.norm(direction) + 1e-7)
      expected = expected - learning_rate * scale * (expected + epsilon) ** 2
      np.testing.assert_allclose(params, expected, rtol=1e-5)
      np.testing.assert_allclose(state.direction, direction, rtol=1e-5)
    self.assertEqual(state.count, 3)

  def test_theta_one_is_sam(self):
    params, _, loss = _parabola(jnp.float32)
    opt = _vasso.vasso(alias.adam(0.1), 0.05, theta=1.0, eps=0.0)
    sam = _sam.sam(
        alias.adam(0.1),
        combine.chain(_sam.normalize(), alias.sgd(0.05)),
        opaque_mode=True,
    )
    sam_params, state, sam_state = params, opt.init(params), sam.init(params)
    for _ in range(5):
      params, state = _step(opt, loss, params, state)
      sam_params, sam_state = _step(sam, loss, sam_params, sam_state)
      test_utils.assert_trees_all_close(params, sam_params, rtol=1e-5)

  def test_zero_gradient(self):
    params = jnp.zeros(2)
    opt = _vasso.vasso(alias.sgd(0.1))
    found, _ = _step(opt, lambda w: 0.0 * jnp.sum(w), params, opt.init(params))
    test_utils.assert_trees_all_equal(found, params)

  @parameterized.parameters(
      ({'rho': -0.1}, 'rho'),
      ({'theta': 1.1}, 'theta'),
      ({'theta': -0.1}, 'theta'),
      ({'theta': float('nan')}, 'theta'),
  )
  def test_numbers_out_of_range(self, kwargs, message):
    with self.assertRaisesRegex(ValueError, message):
      _vasso.vasso(alias.sgd(0.1), **kwargs)

  def test_missing_arguments(self):
    params, _, loss = _parabola(jnp.float32)
    opt = _vasso.vasso(alias.sgd(0.1))
    gradients, state = jax.grad(loss)(params), opt.init(params)
    with self.assertRaisesRegex(ValueError, 'grad_fn'):
      opt.update(gradients, state, params)
    with self.assertRaisesRegex(ValueError, 'params'):
      opt.update(gradients, state, grad_fn=lambda p, _: p)

  @parameterized.parameters(None, jnp.bfloat16, jnp.float32)
  def test_accumulator_dtype(self, dtype):
    params = {'a': jnp.ones(3, jnp.bfloat16), 'b': jnp.ones(2)}
    opt = _vasso.vasso(alias.sgd(0.1), accumulator_dtype=dtype)
    state = opt.init(params)
    for _ in range(2):
      params, state = _step(opt, optax.tree.norm, params, state)
      for name, x in params.items():
        self.assertEqual(state.direction[name].dtype, dtype or x.dtype)
    self.assertEqual(params['a'].dtype, jnp.bfloat16)


class CommonTest(parameterized.TestCase):

  @parameterized.parameters(_parabola, _rosenbrock, _mixed_tensors)
  def test_optimization(self, target):
    params, final_params, loss = target(jnp.float32)
    opt = _vasso.vasso(alias.adam(1e-2), rho=1e-3, theta=0.4)
    state = opt.init(params)
    # A no-op change, to verify that tree map works.
    state = optax.tree.map_params(opt, lambda v: v, state)
    (params, _), _ = jax.lax.scan(
        lambda carry, _: (_step(opt, loss, *carry), None),
        (params, state),
        length=30_000,
    )
    test_utils.assert_trees_all_close(
        params, final_params, rtol=3e-2, atol=3e-2
    )

  def test_extra_args_and_recompilation(self):
    params, _, loss = _rosenbrock(jnp.float32)
    opt = _vasso.vasso(alias.sgd(1e-3))
    step = jax.jit(lambda *args: _step(opt, loss, *args, unexpected=1))
    params, state = step(params, opt.init(params))
    with test_utils.log_compilations() as compilation_logs:
      step(params, state)
    self.assertEmpty(compilation_logs)

  def test_inject_hyperparams(self):
    params, _, loss = _parabola(jnp.float32)
    make = lambda rho, theta: _vasso.vasso(alias.sgd(1e-2), rho, theta)
    opt = make(0.1, 0.4)
    injected = _inject.inject_hyperparams(make)(rho=0.1, theta=0.4)
    scheduled = _inject.inject_hyperparams(make)(
        rho=lambda count: 0.1, theta=lambda count: 0.4
    )
    expected, state = jax.jit(lambda *args: _step(opt, loss, *args))(
        params, opt.init(params)
    )
    for other in (injected, scheduled):
      found, found_state = jax.jit(
          lambda *args, other=other: _step(other, loss, *args)
      )(params, other.init(params))
      test_utils.assert_trees_all_close(found, expected, rtol=1e-5)
      test_utils.assert_trees_all_close(
          found_state.inner_state, state, rtol=1e-5, atol=1e-5
      )

  @parameterized.parameters(jnp.bfloat16, jnp.float32)
  def test_gradient_accumulation(self, dtype):
    params, _, loss = _parabola(dtype)
    opt = _accumulation.MultiSteps(
        _vasso.vasso(alias.sgd(1e-2)), every_k_schedule=4
    )
    found, _ = jax.jit(lambda *args: _step(opt, loss, *args))(
        params, opt.init(params)
    )
    test_utils.assert_trees_all_equal(found, params)

  @parameterized.parameters(
      jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64
  )
  def test_dtype_stability(self, dtype):
    with utils.x64_precision(dtype == jnp.float64):
      params, _, loss = _parabola(dtype)
      opt = _vasso.vasso(alias.sgd(1e-2))
      state = opt.init(params)
      # lax.cond has branches of equal types only.
      new_params, new_state = jax.jit(
          lambda choice, *args: jax.lax.cond(
              choice, lambda: _step(opt, loss, *args), lambda: args
          )
      )(True, params, state)
      self.assertEqual(new_params.dtype, dtype)
      test_utils.assert_trees_all_equal_dtypes(new_state, state)


if __name__ == '__main__':
  absltest.main()
