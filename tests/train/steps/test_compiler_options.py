"""The options of XLA that programs are compiled with."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.networks import NAME, Small
from vasso_jax.train import check, default_config, plan
from vasso_jax.train.steps import compiler_options, program

GPU = SimpleNamespace(platform="gpu")


def test_optimization_barriers_have_an_effect():
    def computed_twice(x):
        return jnp.sin(x) + jnp.sin(jax.lax.optimization_barrier(x))

    options = compiler_options.for_steps(jax.devices()[0])
    program = jax.jit(computed_twice, compiler_options=options).lower(jnp.ones(8)).compile()
    assert program.as_text().count(" sine(") == 2


def test_other_platforms_compile_as_they_do_by_default():
    assert compiler_options.for_steps(GPU) is None
    assert compiler_options.for_steps(SimpleNamespace(platform="tpu")) is None
    assert compiler_options.for_initial_state(GPU) is None


@pytest.mark.slow
def test_the_initial_state_is_the_usual_one():
    def create(key):
        return Small(10).init(key, jnp.zeros((1, 8, 8, 1)), train=False)

    key = jax.random.key(3)
    cheap = compiler_options.for_initial_state(jax.devices()[0])
    ours, usual = (
        jax.jit(create, compiler_options=options)(key)
        for options in (cheap, {"xla_backend_optimization_level": 3})
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), ours, usual)


def test_deterministic_is_an_option_of_gpus():
    assert compiler_options.for_steps(GPU, deterministic=True) == {
        "xla_gpu_deterministic_ops": True
    }
    compiler_options.check_deterministic(GPU)
    config = default_config()
    config.deterministic = True
    with pytest.raises(ValueError, match="deterministic has no effect on cpu devices"):
        check(config)


def test_on_gpus_a_step_is_rechecked_only_where_it_repeats_itself(monkeypatch):
    for device, deterministic in ((GPU, True), (jax.devices()[0], False)):
        compiler_options.check_repeatable(device, deterministic=deterministic)
    refuse = compiler_options.check_repeatable
    monkeypatch.setattr(plan, "check_repeatable", lambda device, **how: refuse(GPU, **how))
    config = default_config()
    check(config)
    config.recheck_every_steps = 100
    with pytest.raises(ValueError, match="same only with deterministic=True: set that, or leave"):
        check(config)


def test_the_program_of_a_run_is_compiled_with_them(monkeypatch):
    found = {}

    def recorded(name):
        make = getattr(program, name)

        def recorder(*args, **kwargs):
            found[name] = kwargs["compiler_options"]
            return make(*args, **kwargs)

        monkeypatch.setattr(program, name, recorder)

    recorded("make_train_step")
    recorded("make_eval_step")
    monkeypatch.setattr(compiler_options, "for_steps", lambda device, **how: how)
    config = default_config()
    config.model.name = NAME
    check(config).program(program.DataSpec(256, 10, (8, 8, 1), (0.5,), (1.0,)))
    how = {"deterministic": False}
    assert found == {"make_train_step": how, "make_eval_step": how}
