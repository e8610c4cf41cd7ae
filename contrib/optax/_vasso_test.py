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
from optax._src import base
from optax._src import combine
from optax._src import numerics
from optax._src import test_utils
from optax._src import transform
from optax._src import update
from optax._src import utils
from optax.contrib import _sam
from optax.contrib import _vasso
from optax.schedules import _inject
from optax.transforms import _accumulation
from optax.transforms import _adding
from optax.transforms import _conditionality
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

  def test_norm_beyond_the_dtype(self):
    """The square of this norm, 500, is more than float16 can hold."""
    params = jnp.zeros(2, jnp.float16)
    gradients = jnp.array([300.0, 400.0], jnp.float16)
    opt = _vasso.vasso(alias.sgd(1.0), rho=5.0)
    perturbed, _ = opt.update(
        gradients, opt.init(params), params, grad_fn=lambda p, _: -p
    )
    np.testing.assert_allclose(perturbed, [3.0, 4.0], rtol=1e-3)

  def test_optimizer_gets_unperturbed_params(self):
    params = jnp.array([1.0, -2.0])
    optimizer = combine.chain(
        _adding.add_decayed_weights(0.1), alias.sgd(1.0)
    )
    opt = _vasso.vasso(optimizer, rho=5.0)
    found, _ = _step(opt, jnp.sum, params, opt.init(params))
    np.testing.assert_allclose(found, params - (1.0 + 0.1 * params), rtol=1e-6)

  def test_optimizer_gets_extra_args(self):
    seen = []

    def update_fn(updates, state, params=None, **extra_args):
      del params
      seen.append(extra_args)
      return updates, state

    opt = _vasso.vasso(
        base.GradientTransformationExtraArgs(base.init_empty_state, update_fn)
    )
    params = jnp.ones(2)
    _step(opt, jnp.sum, params, opt.init(params), value=3.0)
    self.assertEqual(seen, [{'value': 3.0}])

  def test_optimizer_without_extra_args(self):
    optimizer = transform.scale(-1.0)
    self.assertNotIsInstance(optimizer, base.GradientTransformationExtraArgs)
    opt = _vasso.vasso(optimizer)
    params = jnp.ones(2)
    found, _ = _step(opt, jnp.sum, params, opt.init(params), value=3.0)
    np.testing.assert_array_equal(found, jnp.zeros(2))

  @parameterized.product(
      not_finite=(np.nan, np.inf), step=(0, 1), perturbed=(False, True)
  )
  def test_average_leaves_out_gradients_not_finite(
      self, not_finite, step, perturbed
  ):
    """Of two leaves, so that all of a gradient is left out."""
    bad = {'a': jnp.array([not_finite, 5.0]), 'b': jnp.array(6.0)}
    good = {'a': jnp.array([1.0, -2.0]), 'b': jnp.array(3.0)}
    opt = _vasso.vasso(
        _conditionality.apply_if_finite(alias.sgd(1.0), 5), theta=0.4
    )
    params = optax.tree.zeros_like(good)
    state = opt.init(params)
    for i in range(4):
      gradients = bad if i == step else good
      at_perturbed = gradients if perturbed else good
      updates, state = opt.update(
          gradients, state, params, grad_fn=lambda *_, g=at_perturbed: g
      )
      params = update.apply_updates(params, updates)
    self.assertEqual(state.count, 3)
    test_utils.assert_trees_all_close(state.direction, good)
    steps = 3 if perturbed else 4
    test_utils.assert_trees_all_close(params, optax.tree.scale(-steps, good))

  def test_average_leaves_out_gradients_beyond_its_dtype(self):
    params = jnp.ones(2)
    opt = _vasso.vasso(alias.sgd(0.0), accumulator_dtype=jnp.float16)
    _, state = _step(opt, jnp.sum, params, opt.init(params))
    _, state = _step(opt, lambda w: 1e6 * jnp.sum(w), params, state)
    np.testing.assert_array_equal(state.direction, [1.0, 1.0])
    self.assertEqual(state.count, 1)

  def test_apply_if_finite(self):
    """Within, it checks the perturbed gradient, around it the other one."""
    within = _vasso.vasso(_conditionality.apply_if_finite(alias.sgd(1.0), 5))
    around = _conditionality.apply_if_finite(_vasso.vasso(alias.sgd(1.0)), 5)
    params, good, bad = jnp.zeros(2), jnp.ones(2), jnp.array([jnp.nan, 1.0])
    for opt, gradients, at_perturbed, expected in (
        (within, bad, bad, params),
        (within, bad, good, -good),
        (within, good, bad, params),
        (around, bad, bad, params),
        (around, bad, good, params),
        (around, good, bad, -bad),
    ):
      found, _ = opt.update(
          gradients,
          opt.init(params),
          params,
          grad_fn=lambda *_, g=at_perturbed: g,
      )
      np.testing.assert_array_equal(found, expected)

  @parameterized.parameters(
      ({'rho': -0.1}, 'rho'),
      ({'rho': np.float32(-1.0)}, 'rho'),
      ({'theta': 1.1}, 'theta'),
      ({'theta': -0.1}, 'theta'),
      ({'theta': float('nan')}, 'theta'),
      ({'theta': np.array(3.0)}, 'theta'),
  )
  def test_numbers_out_of_range(self, kwargs, message):
    with self.assertRaisesRegex(ValueError, message):
      _vasso.vasso(alias.sgd(0.1), **kwargs)

  def test_arrays_in_and_out_of_range(self):
    for dtype in (jnp.bfloat16, jnp.float32):
      inside, outside = jnp.array(1.0, dtype), jnp.array(3.0, dtype)
      make = lambda theta: _vasso.vasso(alias.sgd(0.1), theta=theta).init(0.0)
      make(inside)
      # Under jit, an array from outside has a value, and an argument has none.
      jax.jit(lambda x=inside: make(x))()
      jax.jit(make)(outside)
      with self.assertRaisesRegex(ValueError, 'theta'):
        make(outside)
      with self.assertRaisesRegex(ValueError, 'theta'):
        jax.jit(lambda x=outside: make(x))()

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
    """Within, it is of perturbed gradients; around it, of the others."""
    make = lambda opt: _accumulation.MultiSteps(opt, every_k_schedule=2)
    sgd = alias.sgd(1.0)
    within = make(sgd).gradient_transformation()
    for rho, opt, expected in (
        # The gradients at the parameters are 1 and 3.
        (0.0, lambda rho: _vasso.vasso(within, rho), -2.0),
        (0.0, lambda rho: make(_vasso.vasso(sgd, rho)), -3.0),
        # At the perturbed parameters, they are 1.5 and 4.5.
        (0.5, lambda rho: _vasso.vasso(within, rho), -3.0),
        (0.5, lambda rho: make(_vasso.vasso(sgd, rho)), -4.5),
    ):
      opt, params = opt(rho), jnp.ones([], dtype)
      state = opt.init(params)
      for scale in (1.0, 3.0):
        np.testing.assert_array_equal(params, 1.0)
        loss = lambda w, scale=scale: scale * w**2 / 2
        params, state = jax.jit(lambda *args, f=loss: _step(opt, f, *args))(
            params, state
        )
      np.testing.assert_allclose(params, 1.0 + expected, rtol=1e-5)

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
