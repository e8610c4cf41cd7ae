"""The learning-rate range test, on a loss whose largest stable rate is known."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from tests.data.image_files import make_folder
from tests.train.own_parts import Bare, config, halves
from vasso_jax import data
from vasso_jax.train import DataError, UsageError, find_lr, lr_finder
from vasso_jax.train.checkpoints.weights import write_run
from vasso_jax.train.lr_finder import exponential, read_off

pytestmark = pytest.mark.slow

CURVATURE = 4.0
LIMIT = 2 / CURVATURE  # gradient descent diverges above it
STEPS = 12
# Fields of the config, beside or in the place of those of `descent`.
IN_PARTS = ("batch_size", 8)
SAM = ("method", {"name": "sam", "rho": 0.1})


class Quadratic(nn.Module):
    """Its cross-entropy for label 0 is 3 + CURVATURE / 2 (w - t)^2, t being 1 or -1 by the image.

    It is q for the logits 0 and log(e^q - 1) = q + log(1 - e^-q), whatever q > 0 is.
    """

    start: float = 1.0

    @nn.compact
    def __call__(self, x, train):
        w = self.param("w", nn.initializers.constant(self.start), ())
        target = jnp.sign(x.mean(axis=(1, 2, 3)) - x[:, 0, 0, 0] + x[:, -1, 0, 0])
        q = 1 + CURVATURE / 2 * (w - target) ** 2
        return jnp.stack([jnp.zeros_like(q), q + jnp.log(-jnp.expm1(-q))], axis=1)


def of_one_label():
    """The images of `halves`, in equal numbers, all with label 0."""
    made = halves()
    train, test = ((s.images, np.zeros_like(s.labels)) for s in (made.train, made.test))
    return data.from_arrays("one label", train, test, ("seen", "never"))


def descent(**sections):
    base = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}
    return config(**{"base": base, "batch_size": 32} | sections)


def find(*sections, **arguments):
    """On `descent` with some (name, value) in `sections`; by default in full batches."""
    given = {"model": Quadratic(), "dataset": of_one_label()}
    range_ = {"low": 0.01, "high": 0.6, "steps": STEPS}
    return find_lr(descent(**dict(sections)), **given | range_ | arguments)


def growing(low, high, steps):
    return np.array([low * (high / low) ** (i / (steps - 1)) for i in range(steps)])


def test_the_rate_grows_exponentially():
    schedule = exponential(0.1, 2, 5, low=1e-4, high=10.0, steps=21)
    np.testing.assert_allclose(
        [float(schedule(i)) for i in range(21)], growing(1e-4, 10.0, 21), rtol=1e-5
    )


def test_losses_are_those_of_gradient_descent_with_the_growing_rates():
    found = find()
    w, losses = 1.0, []
    for rate in growing(0.01, 0.6, STEPS):
        # Over all images, the mean of the targets is 0, and that of their squares 1.
        losses.append(1 + CURVATURE / 2 * (w**2 + 1))
        w -= rate * CURVATURE * w
    np.testing.assert_allclose(found.rates, growing(0.01, 0.6, STEPS), rtol=1e-5)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
    assert found.diverged is None


def test_the_average_is_the_debiased_one():
    found = find(IN_PARTS, steps=60)
    decay, average, smoothed = 1 - 1 / 3, 0.0, []
    for k, loss in enumerate(found.losses, start=1):
        average = decay * average + (1 - decay) * loss
        smoothed.append(average / (1 - decay**k))
    assert np.ptp(found.losses[-10:]) > 0.05  # there is something to smooth
    np.testing.assert_allclose(found.smoothed, smoothed, rtol=1e-6)


def test_it_stops_where_plain_descent_diverges_and_suggests_less():
    found = find(IN_PARTS, low=1e-3, high=10.0, steps=100)
    assert LIMIT < found.diverged < 2 * LIMIT
    assert found.diverged == found.rates[-1]
    assert found.smoothed[-1] > 4 * found.smoothed.min() > found.smoothed[-2]
    assert found.minimum < LIMIT
    assert found.minimum == found.rates[found.smoothed.argmin()]
    assert found.suggested == pytest.approx(found.minimum / 10)
    assert found.steepest < found.minimum


def test_a_loss_that_is_not_finite_ends_it():
    found = find(low=1e20, high=1e30)
    assert len(found.losses) == 1
    assert found.diverged == pytest.approx(1e20 * 10 ** (10 / 11), rel=1e-5)
    assert (found.steepest, found.minimum, found.suggested) == (None, None, None)


def curve(losses):
    """What is read off losses that need no average, and do not diverge; and the rates."""
    losses = np.array(losses, float)
    rates = growing(1e-3, 1.0, len(losses))
    return read_off(rates, losses, losses, None), rates


def test_rates_are_read_off_the_curve():
    # The fall at the very start is that of an average over two losses.
    found, rates = curve([9, 5, 5, 4.9, 4.6, 3, 1.5, 1.2, 1, 1.1, 4.5])
    assert (found.steepest, found.minimum) == pytest.approx((rates[5], rates[8]))
    found, rates = curve([5, 5, 5, 4.9, 4.6, 4, 3.2, 2, 1, 0.8, 0.7])
    assert found.steepest == pytest.approx(rates[7])
    assert found.minimum is found.suggested is None
    found, _ = curve([5, 5.1, 5.2, 5.2, 5.1, 5.3, 6, 7, 8, 9, 9.5])
    assert found.steepest is found.minimum is found.suggested is None


def test_neither_rho_nor_a_window_that_is_long_enough_changes_within_the_test():
    # The window ends with the last step of the test.
    window = ("window", {"end_epoch": float(STEPS)})
    tied = find(SAM, ("rho_schedule", {"rho_min": 0.01}), window, ("epochs", STEPS + 1))
    plain = find(SAM)
    np.testing.assert_array_equal(tied.losses, plain.losses)
    assert not np.array_equal(find().losses, plain.losses)


@pytest.mark.slow  # to compile
def test_steps_without_a_clean_pass_have_no_loss():
    reusing = ("method", {"name": "sam", "rho": 0.1, "refresh_every": 3})
    found = find(IN_PARTS, reusing, steps=30)
    np.testing.assert_allclose(found.rates, growing(0.01, 0.6, 30)[::3], rtol=1e-5)
    decay = 1 - 1 / 1.5
    for k in (0, 4, 9):
        weights = decay ** (3 * np.arange(k, -1, -1))
        average = np.average(found.losses[: k + 1], weights=weights)
        assert found.smoothed[k] == pytest.approx(average)


def report(monkeypatch, losses):
    """The steps report so many equal losses, and are not made."""
    found = [(step, 0.1, {"loss": 1.0, "top1": 0.0}) for step in range(losses)]
    monkeypatch.setattr(lr_finder, "_trained", lambda *given: (each for each in found))


def test_too_few_losses_are_refused(monkeypatch):
    report(monkeypatch, 9)
    with pytest.raises(UsageError, match="only 9 of 12 steps report a loss"):
        find()


@pytest.mark.parametrize(("method", "warns"), [({"refresh": "descent"}, True), ({}, False)])
def test_it_warns_where_the_loss_is_that_of_perturbed_parameters(
    method, warns, monkeypatch, capsys
):
    report(monkeypatch, STEPS)
    find(("method", {"name": "vasso", **method}))
    assert ("warning: each step is one evaluation" in capsys.readouterr().out) == warns


@pytest.mark.parametrize("base", [{"name": "optax:sgd"}, {"name": "optax:sgd", "lr": 1}])
def test_the_learning_rate_of_the_config_is_not_used(base):
    np.testing.assert_allclose(find(("base", base)).losses, find().losses)


def test_it_starts_from_given_weights(tmp_path):
    write_run(str(tmp_path / "run"), {"params": {"w": jnp.float32(0.5)}, "batch_stats": {}})
    found = find(("init_from", str(tmp_path / "run")))
    assert found.losses[0] == pytest.approx(1 + CURVATURE / 2 * (0.25 + 1))


def test_images_from_disk_and_what_is_damaged(tmp_path, capsys):
    folder = make_folder(tmp_path / "data", train=8, val=2)
    (folder / "train/ant/003.jpg").write_text("no image")
    made = descent(batch_size=8, data={"name": "folder", "dir": str(folder), "image_size": 8})
    with pytest.raises(DataError, match=r"train/ant/003\.jpg"):
        find_lr(made, steps=10, model=Bare(2))
    made.data.on_damaged = "skip"
    found = find_lr(made, low=1e-6, high=1e-4, steps=10, model=Bare(2))
    assert len(found.losses) == 10
    assert "5 damaged images were left out" in capsys.readouterr().out  # once per epoch


@pytest.mark.parametrize(
    ("sections", "arguments", "message"),
    [
        ([], {"low": 0.6}, "1e-37 < low < high < 1e\\+37, got 0.6 and 0.6"),
        ([], {"low": 0.0}, "1e-37 < low < high"),
        ([], {"low": float("nan")}, "1e-37 < low < high"),
        ([], {"high": float("inf")}, "1e-37 < low < high"),
        ([], {"steps": 9}, "steps must be at least 10, got 9"),
        ([], {"model": Quadratic(start=float("nan"))}, "not finite before the first update"),
        ([("epochs", 0), ("init_from", "run")], {}, "epochs=0 trains nothing"),
        ([("init_from", "nowhere")], {}, "init_from=nowhere"),
        (
            [SAM, ("window", {"start_epoch": 1})],
            {},
            "from step 1 on, not in all of the 12 steps .* leave window out",
        ),
        (
            [("method", {"name": "sam", "active": (0, 11)}), ("epochs", 12)],
            {},
            r"from step 0 to 10, not in all of the 12 steps .* leave method\.active out",
        ),
    ],
)
def test_what_it_refuses(sections, arguments, message):
    with pytest.raises(UsageError, match=message):
        find(*sections, **arguments)


def test_the_config_stays_as_it_is_and_may_be_frozen():
    made = descent(schedule={"name": "multistep", "milestones": (1,)})
    before = made.to_json()
    arguments = {"low": 0.01, "high": 0.6, "steps": STEPS, "dataset": of_one_label()}
    found = find_lr(made, model=Quadratic(), **arguments)
    assert made.to_json() == before
    again = find_lr(FrozenConfigDict(made), model=Quadratic(), **arguments)
    np.testing.assert_array_equal(again.losses, found.losses)
