"""Learning rates by hand, per step."""

import numpy as np
import pytest

from vasso_jax.train.config.schedules import SCHEDULES

RUN = {"lr": 0.1, "epochs": 10, "steps_per_epoch": 4}
OWN = {"multistep": {"milestones": (5, 8), "decay_factor": 0.2}}


def make(name, **changes):
    return SCHEDULES[name](**(RUN | OWN.get(name, {}) | changes))


def rates(name, steps, **changes):
    schedule = make(name, **changes)
    return np.array([float(schedule(step)) for step in steps])


def test_cosine_falls_to_its_end_per_step():
    steps = np.arange(41)
    expected = 0.05 * (1 + np.cos(np.pi * steps / 40))
    np.testing.assert_allclose(rates("cosine", steps), expected, atol=1e-8)
    np.testing.assert_allclose(rates("cosine", [40], final_lr=0.01), 0.01, rtol=1e-6)


def test_multistep_decays_at_the_milestones():
    np.testing.assert_allclose(
        rates("multistep", [0, 19, 20, 31, 32, 39]), [0.1, 0.1, 0.02, 0.02, 0.004, 0.004], rtol=1e-6
    )


@pytest.mark.parametrize("name", ["cosine", "multistep", "constant"])
def test_warm_up_rises_linearly_and_milestones_count_from_the_start(name):
    np.testing.assert_allclose(
        rates(name, range(9), warmup_epochs=2)[:9], 0.1 * np.arange(9) / 8, rtol=1e-5
    )
    if name == "multistep":
        np.testing.assert_allclose(rates(name, [19, 20], warmup_epochs=2), [0.1, 0.02], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cosine", {"lr": 0.0}, "lr must be a number > 0"),
        ("cosine", {"lr": float("inf")}, "lr must be a number > 0"),
        ("cosine", {"lr": float("nan")}, "lr must be a number > 0"),
        ("cosine", {"final_lr": 0.2}, "final_lr"),
        ("cosine", {"warmup_epochs": 10}, "warmup_epochs"),
        ("multistep", {"milestones": (1,), "warmup_epochs": 2}, "after the warm-up"),
        ("multistep", {"milestones": (5, 5)}, "increasing"),
        ("multistep", {"milestones": (5, 60)}, "before the end"),
        ("multistep", {"milestones": (5, "a")}, "milestones must be"),
        ("multistep", {"decay_factor": 0.0}, "decay_factor"),
        # Of 40 steps in all: too close for the steps that there are.
        ("cosine", {"warmup_epochs": 9.9}, "warmup_epochs=9.9 is 40 of the 40 steps"),
        ("constant", {"warmup_epochs": 0.1}, "warmup_epochs=0.1 is 0 of the 40 steps"),
        ("multistep", {"milestones": (5, 5.1)}, r"\(20, 20\) of this run: each needs its own"),
        ("multistep", {"milestones": (0.1, 5)}, "after step 0 and before step 40"),
        ("multistep", {"milestones": (5, 9.9)}, "before step 40"),
        ("multistep", {"milestones": (2.1,), "warmup_epochs": 2}, "after step 8"),
    ],
)
def test_bad_schedules_are_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        make(name, **changes)


def test_an_evaluation_has_no_rate():
    assert rates("cosine", [0], epochs=0) == rates("multistep", [0], epochs=0) == 0
