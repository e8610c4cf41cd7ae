"""A step that is computed twice: a single flipped bit anywhere in its result ends the run."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.cli.train import fail_in_cluster
from vasso_jax.train.devices import processes
from vasso_jax.train.devices.sharding import make_mesh
from vasso_jax.train.errors import SilentCorruption
from vasso_jax.train.recheck import RecheckedStep
from vasso_jax.train.steps.state import TrainState, state_formats

# Of a state on eight devices, of which four share the kernel and the momentum; the rest are copies.
ARRAYS = ("params/kernel", "params/bias", "opt_state/momentum", "batch_stats/mean", "step")


def states():
    """(format of each array, a function that makes a state)."""
    made = TrainState(
        step=np.int32(0),
        params={"kernel": np.ones((64, 32), np.float32), "bias": np.ones(3, np.float32)},
        batch_stats={"mean": np.zeros(3, np.float32)},
        opt_state={"momentum": np.ones((64, 32), np.float32)},
        ema={},
        key=np.zeros(2, np.uint32),
        metric_sums={},
        window_sums={},
    )
    formats = state_formats(made, make_mesh(fsdp=4))
    return formats, lambda: jax.device_put(made, formats)


def advance(state, item):
    return jax.tree.map(lambda x: (x + item).astype(x.dtype), state)


@pytest.fixture(scope="module")
def setting():
    """(abstract state, the step, a function that makes a state)."""
    formats, create = states()
    step = jax.jit(advance, donate_argnums=0, out_shardings=formats)
    abstract = jax.tree.map(
        lambda x, f: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=f), create(), formats
    )
    return abstract, step, create


def rechecked(setting, every, at_call=lambda call, state: state):
    """(the rechecked step, its calls so far); `at_call` may change what a call returns."""
    abstract, step, _ = setting
    calls = []

    def compute(state, item):
        calls.append(item)
        return at_call(len(calls), step(state, item))

    return RecheckedStep(SimpleNamespace(train_step=compute, abstract_state=abstract), every), calls


def flipped(state, name, copies):
    """One bit of one number of an array is another one, on so many devices that hold it."""

    def flip(path, x):
        if jax.tree_util.keystr(path, simple=True, separator="/") != name:
            return x
        shards = [np.array(shard.data) for shard in x.addressable_shards]
        for shard in shards[-copies:]:
            shard.reshape(-1).view(np.uint32)[-1] ^= 1
        placed = [
            jax.device_put(shard, of.device)
            for shard, of in zip(shards, x.addressable_shards, strict=True)
        ]
        return jax.make_array_from_single_device_arrays(x.shape, x.sharding, placed)

    return jax.tree_util.tree_map_with_path(flip, state)


def test_every_nth_step_is_computed_twice_with_the_same_result(setting):
    _, step, create = setting
    take, calls = rechecked(setting, 3)
    ours, plain = create(), create()
    for number in range(1, 8):
        ours, plain = take(number, ours, jnp.float32(number)), step(plain, jnp.float32(number))
    assert list(map(int, calls)) == [1, 2, 3, 3, 4, 5, 6, 6, 7]
    jax.tree.map(np.testing.assert_array_equal, ours, plain)
    assert ours.params["kernel"].sharding.spec == plain.params["kernel"].sharding.spec


def test_without_the_option_each_step_is_computed_once(setting):
    take, calls = rechecked(setting, 0)
    take(1, setting[2](), jnp.float32(1))
    assert len(calls) == 1


# On all devices, or on the last one of those that hold a copy.
@pytest.mark.parametrize("copies", [8, 1])
@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("name", ARRAYS)
def test_a_flipped_bit_is_found(setting, name, call, copies):
    def flip(now, state):
        return flipped(state, name, copies) if now == call else state

    take, _ = rechecked(setting, 5, flip)
    with pytest.raises(SilentCorruption, match=rf"^step 5 .*differently \({name}; on \S+, proc"):
        take(5, setting[2](), jnp.float32(1))


@pytest.mark.parametrize(
    ("of_the_other", "message"),
    [
        (lambda call, ours: 2 if call == 1 else ours, "differently on another process"),
        (lambda call, ours: ours if call == 1 else ours ^ 1, "copies of the state that differ"),
    ],
)
def test_what_is_wrong_on_another_process_ends_this_one(
    setting, monkeypatch, of_the_other, message
):
    calls = []

    def gather(ours):
        calls.append(ours)
        return [ours, of_the_other(len(calls), ours)]

    monkeypatch.setattr(processes, "gather", gather)
    take, _ = rechecked(setting, 1)
    with pytest.raises(SilentCorruption, match=f"step 1 .*{message}"):
        take(1, setting[2](), jnp.float32(1))


def test_many_arrays_are_counted_and_the_run_can_be_resumed_elsewhere(setting, capsys):
    def scale(call, state):
        return advance(state, np.float32(call))

    take, _ = rechecked(setting, 1, scale)
    with pytest.raises(SilentCorruption) as found:
        take(1, setting[2](), jnp.float32(1))
    assert " and 3 others; on " in str(found.value)
    with pytest.raises(SystemExit) as ended:
        fail_in_cluster(found.value)
    assert ended.value.code == 75
    assert capsys.readouterr().err == f"error: {found.value}\n"
