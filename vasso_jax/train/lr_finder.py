"""The learning-rate range test: a short training whose rate grows until the loss diverges.

After Smith, arXiv 1506.01186, section 3.3, with the exponential growth, the average of the losses
and the end of the fastai library (https://docs.fast.ai/callback.schedule.html).
"""

import contextlib
import math
from collections.abc import Generator
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax

from vasso_jax.train.checkpoints.weights import checkpoint_of, start_from
from vasso_jax.train.config.fields import Config, with_fields
from vasso_jax.train.config.objects import Dataset
from vasso_jax.train.config.optimizer import METHODS
from vasso_jax.train.config.window import epoch_window
from vasso_jax.train.devices import processes
from vasso_jax.train.devices.sharding import replicated
from vasso_jax.train.errors import UsageError, usage_errors
from vasso_jax.train.evaluation import skipped_images
from vasso_jax.train.plan import Experiment, Plan, check
from vasso_jax.train.reporting.console import Display
from vasso_jax.train.run import open_experiment
from vasso_jax.train.steps.state import TrainState

_FEWEST = 10  # losses that say something
_LEAST = 1e-37  # rate that float32 holds, with room for its inverse
# The smoothed loss has diverged where it is so many times its minimum (fastai).
_DIVERGED = 4.0
# Of the steps: those that have most of the weight in the average.
_AVERAGED = 0.05
# Of the losses: there the average holds few of them, so that slopes are noise.
_START = 0.1
# Of the rate at the minimum, where the loss is about to diverge (fastai).
_SUGGESTED = 0.1


class RangeTest(NamedTuple):
    """What a range test found; see `find_lr`.

    Attributes:
        rates: learning rates of the steps that report a loss, growing, float64 [n].
        losses: their mean losses over the batch, before the step is made, in nats, float64 [n].
        smoothed: their debiased exponential moving average, float64 [n].
        diverged: rate at which `smoothed` exceeded four times its minimum, or a loss was not
            finite, and the test ended; None: it did not.
        steepest: rate at which `smoothed` falls fastest over the logarithm of the rate; None: it
            falls nowhere.
        minimum: rate at the minimum of `smoothed`; None: that is at the start or the end.
        suggested: a tenth of `minimum`; None without one.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    diverged: float | None
    steepest: float | None
    minimum: float | None
    suggested: float | None


def find_lr(
    config: Config,
    *,
    low: float = 1e-5,
    high: float = 10.0,
    steps: int = 100,
    model: nn.Module | None = None,
    dataset: Dataset | None = None,
) -> RangeTest:
    """Trains for some steps while the learning rate grows, and reads rates off the loss.

    Network, method, base, batches and augmentation are those of the run that `config` describes,
    from its first step on. The sections `schedule` and `rho_schedule` are replaced: step i of N has
    the rate low (high / low)^(i / (N - 1)), and rho stays `method.rho`. `base.lr` is not used. The
    loss is that of the clean pass, or of the perturbed one where a step has no other. Nothing is
    written.

    Where the loss falls fastest, and how far below its minimum a rate is safe, are rules of thumb
    on the start of training. Momentum, weight decay, the batch size and the perturbation move both.

    Args:
        config: an ml_collections.ConfigDict that began as `default_config()`.
        low, high: first and last learning rate, 1e-37 < low < high < 1e37.
        steps: of the optimizer, at least 10.
        model: takes the place of the section `model`; see `vasso_jax.train.train`.
        dataset: takes the place of the section `data`.

    Raises:
        UsageError: a bad argument or config, missing or damaged data, or too few losses.
    """
    with usage_errors():
        plan = plan_test(config, low=low, high=high, steps=steps, model=model, dataset=dataset)
    return run_test(plan)


def plan_test(
    config: Config,
    *,
    low: float,
    high: float,
    steps: int,
    model: nn.Module | None = None,
    dataset: Dataset | None = None,
) -> Plan:
    """The plan of a range test; arguments as for `find_lr`.

    Raises:
        ValueError: an argument or a field of the config is out of range.
    """
    if not _LEAST < low < high < 1 / _LEAST:
        raise ValueError(
            f"low and high must be rates with {_LEAST:g} < low < high < {1 / _LEAST:g}, got {low} "
            f"and {high}"
        )
    if steps < _FEWEST:
        raise ValueError(f"steps must be at least {_FEWEST}, got {steps}")
    growing = {"name": f"{__name__}:exponential", "low": low, "high": high, "steps": steps}
    # None first: the field may be missing, or hold an integer, which takes no other number.
    tested = with_fields(config, {"base.lr": None, "schedule": growing, "rho_schedule": {}})
    plan = check(with_fields(tested, {"base.lr": low}), model=model, dataset=dataset)
    if not plan.options.epochs:
        raise ValueError("epochs=0 trains nothing, so there is no learning rate to find: raise it")
    return plan


def exponential(
    lr: float, epochs: int, steps_per_epoch: int, *, low: float, high: float, steps: int
) -> optax.Schedule:
    """low (high / low)^(i / (steps - 1)) at step i.

    Args:
        lr, epochs, steps_per_epoch: of the run, not used.
        low, high: first and last rate.
        steps: from the one to the other, both included.
    """
    del lr, epochs, steps_per_epoch
    return optax.exponential_decay(low, steps - 1, high / low)


def run_test(plan: Plan) -> RangeTest:
    """Makes the test of `plan_test`.

    Raises:
        UsageError: missing or damaged data, weights that cannot be read, a window that leaves
            steps unperturbed, or too few losses.
    """
    display = Display(enabled=processes.is_first())
    try:
        with usage_errors():
            weights = checkpoint_of(plan.options.init_from) if plan.options.init_from else None
        experiment = open_experiment(plan, display)
        with usage_errors():
            _check_window(plan, experiment.program.steps_per_epoch)
        state = experiment.program.create_state()
        if weights:
            state = start_from(weights, state, keep_head=False)
        # As `zero_metrics` says what the steps of a method can report.
        if "perturbed" in state.metric_sums and "loss_increase" not in state.metric_sums:
            display.warn(
                "each step is one evaluation, at perturbed parameters: its loss also follows the "
                "perturbation, not only the learning rate; the method none tests the base alone"
            )
        return _measure(experiment, state, display)
    finally:
        display.stop()


def _check_window(plan: Plan, steps_per_epoch: int) -> None:
    """Raises ValueError if it is known that the method does not perturb in all steps."""
    steps, method = plan.settings["schedule"]["steps"], plan.settings["method"]
    field, active = "method.active", method.get("active") if method["name"] in METHODS else None
    if window := plan.settings["window"]:
        field, active = "window", epoch_window(plan.options.epochs, steps_per_epoch, **window)
    if not isinstance(active, list | tuple):
        return
    start, end = active
    if start or (end is not None and end < steps):
        until = "on" if end is None else f"to {end - 1}"
        raise ValueError(
            f"the method perturbs from step {start} {until}, not in all of the {steps} steps of "
            f"this test, whose losses could not be compared: leave {field} out to test the method, "
            "or choose the method none to test its base alone"
        )


def _measure(experiment: Experiment, state: TrainState, display: Display) -> RangeTest:
    """Trains until the rate has grown to its end or the loss has diverged."""
    steps = experiment.plan.settings["schedule"]["steps"]
    average = _Average(steps)
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    diverged = None
    display.start(steps, 0)
    with contextlib.closing(_trained(experiment, state, steps)) as trained:
        for step, rate, metrics in trained:
            loss = metrics["loss"]
            if math.isfinite(loss):
                rates.append(rate)
                losses.append(loss)
                smoothed.append(average.with_loss(step, loss))
            if not math.isfinite(loss) or smoothed[-1] > _DIVERGED * min(smoothed):
                diverged = rate
                break
            display.advance(step + 1, steps, metrics, None)
    if skipped := skipped_images(experiment.pipeline).get("skipped"):
        display.note(f"{skipped} damaged images were left out")
    if not losses and diverged:
        raise UsageError(
            "the loss is not finite before the first update: look at the network and the data"
        )
    if len(losses) < _FEWEST and not diverged:
        raise UsageError(
            f"only {len(losses)} of {steps} steps report a loss, as the others reuse a direction, "
            f"and {_FEWEST} are needed: give more steps"
        )
    return read_off(np.array(rates), np.array(losses), np.array(smoothed), diverged)


def _trained(
    experiment: Experiment, state: TrainState, steps: int
) -> Generator[tuple[int, float, dict[str, float]], None, None]:
    """Trains; yields number, learning rate and metrics of each step that reports a loss."""
    program = experiment.program
    assert program.schedule is not None  # no transform was given
    reset = jax.jit(optax.tree.zeros_like, out_shardings=replicated(experiment.plan.mesh))
    with contextlib.closing(experiment.pipeline.training(0)) as items:
        for step, item in zip(range(steps), items, strict=False):
            state = program.train_step(state, item)
            sums = jax.device_get(state.metric_sums)
            state = state.replace(metric_sums=reset(state.metric_sums))
            if sums["loss"].steps:
                rate = float(np.asarray(program.schedule(step)))
                yield step, rate, {name: float(sums[name].total) for name in ("loss", "top1")}


class _Average:
    """An exponential moving average of losses without the bias of its start.

        sum over steps j <= k of d^(k - j) loss_j,  divided by  sum over steps j <= k of d^(k - j)

    Only steps that report a loss count. fastai's d is 0.98 in 100 steps. Here 1 / (1 - d) is a
    share of the steps, so that the average lags behind by the same share of the range, however many
    there are.
    """

    def __init__(self, steps: int):
        """`steps` are those of the whole test."""
        self._decay = 1 - 1 / max(_AVERAGED * steps, 1)
        self._step = 0
        self._sum = self._weight = 0.0

    def with_loss(self, step: int, loss: float) -> float:
        """The average after one more loss, of a later step."""
        left = self._decay ** (step - self._step)
        self._step = step
        self._sum, self._weight = left * self._sum + loss, left * self._weight + 1
        return self._sum / self._weight


def read_off(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, diverged: float | None
) -> RangeTest:
    """The result of a test, with the rates that its curve tells; arguments as in `RangeTest`."""
    start, lowest = int(_START * len(rates)), int(smoothed.argmin())
    steepest = minimum = None
    if start < lowest:
        falling = slice(start, lowest + 1)
        slopes = np.gradient(smoothed[falling], np.log(rates[falling]))
        steepest = float(rates[falling][slopes.argmin()])
        if diverged or lowest < len(rates) - 1:
            minimum = float(rates[lowest])
    return RangeTest(
        rates, losses, smoothed, diverged, steepest, minimum, minimum and _SUGGESTED * minimum
    )
