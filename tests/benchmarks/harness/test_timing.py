"""Measuring in turn, and the summary of what was measured."""

import pytest

from benchmarks.harness import timing


def test_runs_take_turns_and_reverse_every_second_round():
    calls = []

    def run(name):
        calls.append(name)
        return float(len(calls))

    runs = {name: lambda name=name: run(name) for name in "abc"}
    measured = timing.in_turn(runs, rounds=2)
    assert calls == [*"abc", *"abc", *"cba"]
    assert measured == {"a": [4, 9], "b": [5, 8], "c": [6, 7]}
    calls.clear()
    timing.in_turn(runs, rounds=1, warm_up=False)
    assert calls == [*"abc"]


def test_the_time_is_divided_among_the_steps(monkeypatch):
    clock = [5.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def run():
        clock[0] += 3.0

    assert timing.timed(run)() == 3.0
    assert timing.timed(run, per=2)() == 1.5


def test_ratios_are_taken_round_by_round():
    # A slow second round, slow for both, leaves the ratio alone.
    result = timing.summary([2.0, 20.0, 2.2], [1.0, 10.0, 1.0])
    assert result["ratio"] == result["ratio_min"] == 2.0
    assert result["ratio_max"] == pytest.approx(2.2)
    assert (result["median_s"], result["min_s"], result["max_s"]) == (2.2, 2.0, 20.0)
