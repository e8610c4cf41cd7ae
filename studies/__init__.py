"""Questions about the methods, each answered by runs: one folder per study.

    label_noise   does variance suppression help where training labels are wrong?
    variance      does VaSSO's average suppress the variance of SAM's direction?

Each is run from the root of a clone as `python -m studies.NAME`. The docstring of its `__main__`
is the protocol; `results/` has the numbers and the figure. `--redraw` draws the figure from the
numbers that are there. `parallel_runs` trains what is missing.
"""
