"""Batches from disk: order, parts of hosts, resuming, workers, damaged images."""

import collections
import dataclasses
import itertools
import pathlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.data.image_files import colour, colours, make_folder
from vasso_jax.data import Host, Streaming, evaluation_batches, load, training_batches

OPTIONS = {
    "image_size": 8,
    "crop_min_area": 0.3,
    "eval_crop": 0.875,
    "on_damaged": "stop",
    "workers": 0,
}
ONE = Host()
BATCH, TRAIN, TEST = 8, 22, 10
EPOCH = TRAIN // BATCH


def read_as(dataset, **options):
    return dataclasses.replace(dataset, streaming=Streaming(**(OPTIONS | options)))


@pytest.fixture
def dataset(tmp_path):
    return load("folder", dir=str(make_folder(tmp_path, TRAIN // 2, TEST // 2)))


def training(dataset, steps, first_step=0, seed=0, host=ONE, **options):
    batches = training_batches(
        read_as(dataset, **options),
        batch_size=BATCH,
        seed=seed,
        first_step=first_step,
        host=host,
    )
    taken = list(itertools.islice(batches, steps))
    batches.close()
    return taken


def numbers(batches):
    """The number of each image in the folder, by its colour."""
    palette = np.array([colour(i) for i in range(TRAIN + TEST)])
    found = np.array([c for batch in batches for c in colours(batch.images)])
    distances = np.abs(found[:, None] - palette).sum(-1)
    assert distances.min(1).max() < 12  # what JPEG does to a plain colour
    return distances.argmin(1).tolist()


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_an_epoch_has_no_image_twice_and_each_epoch_its_own_order(dataset):
    batches = training(dataset, 3 * EPOCH)
    epochs = [numbers(batches[e * EPOCH : (e + 1) * EPOCH]) for e in range(3)]
    for order in epochs:
        assert len(set(order)) == EPOCH * BATCH
    assert epochs[0] != epochs[1] != epochs[2]
    for batch in batches:
        assert batch.images.shape == (BATCH, 8, 8, 3)
        assert batch.images.dtype == np.uint8
        assert batch.valid.all()
        assert batch.labels.dtype == np.int32
        # The first half of the folder is the first class.
        assert batch.labels.tolist() == [n // (TRAIN // 2) for n in numbers([batch])]
    assert numbers(training(dataset, EPOCH, seed=1)) != epochs[0]


def test_it_goes_on_from_any_step_with_the_very_next_batch(dataset):
    unbroken = training(dataset, 2 * EPOCH + 2)
    for step in (1, EPOCH, 2 * EPOCH + 1):
        assert_equal(training(dataset, 1, first_step=step), unbroken[step : step + 1])
    # Far into a long run at once.
    assert numbers(training(dataset, 1, first_step=10**12))


def test_hosts_share_each_batch_and_crop_as_one_would(dataset):
    whole = training(dataset, EPOCH + 1)
    parts = [training(dataset, EPOCH + 1, host=Host(host, 4)) for host in range(4)]
    for step, batch in enumerate(whole):
        for host in range(4):
            mine = slice(host * BATCH // 4, (host + 1) * BATCH // 4)
            assert_equal([parts[host][step]], [type(batch)(*(x[mine] for x in batch))])


@hypothesis.given(
    hosts=st.lists(st.sampled_from([1, 2, 4, 8]), min_size=2 * EPOCH, max_size=2 * EPOCH)
)
@hypothesis.settings(
    max_examples=5, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_the_number_of_hosts_may_change_at_any_step(dataset, hosts):
    unbroken = training(dataset, 2 * EPOCH)
    for step, count in enumerate(hosts):
        parts = [training(dataset, 1, step, host=Host(i, count))[0] for i in range(count)]
        joined = type(parts[0])(*(np.concatenate(x) for x in zip(*parts, strict=True)))
        assert_equal([joined], unbroken[step : step + 1])


@pytest.mark.parametrize("hosts", [1, 4])
def test_every_test_image_is_valid_exactly_once_on_any_number_of_hosts(dataset, hosts):
    seen = []
    for host in range(hosts):
        mine = Host(host, hosts)
        for batch in evaluation_batches(
            read_as(dataset), dataset.test, batch_size=BATCH, host=mine
        ):
            assert len(batch.labels) == BATCH // hosts
            seen += [n for n, ok in zip(numbers([batch]), batch.valid, strict=True) if ok]
    assert sorted(seen) == list(range(TRAIN, TRAIN + TEST))


@pytest.mark.slow
def test_worker_processes_give_the_batches_that_threads_do(dataset):
    steps = EPOCH + 2
    assert_equal(training(dataset, steps, workers=2), training(dataset, steps))


def damage(dataset, index, split="train"):
    path = pathlib.Path(getattr(dataset, split)[index].name)
    path.write_bytes(path.read_bytes()[:200])
    return path


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(dataset, workers):
    path = damage(dataset, 5)
    with pytest.raises(ValueError, match=rf'{path}.*=skip, or .*Streaming\(on_damaged="skip"'):
        training(dataset, 6 * EPOCH, workers=workers)


def test_or_skipped_and_counted(dataset):
    damage(dataset, 5)
    damage(dataset, 6)
    batches = training(dataset, 4 * EPOCH, on_damaged="skip")
    seen = collections.Counter(numbers(batches))
    assert (seen[5], seen[6]) == (0, 0)
    assert batches[0].images.shape == (BATCH, 8, 8, 3)
    skipped = sum(int(batch.skipped.sum()) for batch in batches)
    assert 1 <= skipped <= 2 * 4 + 2  # two an epoch, and perhaps one of them for the other
    assert_equal(training(dataset, 1, 3 * EPOCH, on_damaged="skip"), batches[3 * EPOCH :][:1])

    damage(dataset, 2, "test")
    skipping = read_as(dataset, on_damaged="skip")
    batches = list(evaluation_batches(skipping, dataset.test, batch_size=BATCH))
    assert sum(int(batch.valid.sum()) for batch in batches) == TEST - 1
    assert sum(int(batch.skipped.sum()) for batch in batches) == 1


def test_a_set_of_damaged_images_only_is_an_error(dataset):
    for i in range(TRAIN):
        damage(dataset, i)
    with pytest.raises(ValueError, match=r"\.jpg: not an image"):
        training(dataset, 1, on_damaged="skip")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", 0),
        ("crop_min_area", 0),
        ("crop_min_area", 1.1),
        ("eval_crop", 0),
        ("on_damaged", "ignore"),
        ("workers", -1),
    ],
)
def test_options_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        Streaming(**{field: value})
