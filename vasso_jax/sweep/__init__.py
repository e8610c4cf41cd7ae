"""Many runs: the points of a sweep, and several runs at once on one machine.

The run folders are the only memory of a sweep. So it can be stopped in any way, and goes on where
it was.
"""

from vasso_jax.sweep.jobs import PlannedRun, Progress, run_all
from vasso_jax.sweep.points import Point, make_points, own_points
from vasso_jax.sweep.progress import ConsoleProgress

__all__ = [
    "ConsoleProgress",
    "PlannedRun",
    "Point",
    "Progress",
    "make_points",
    "own_points",
    "run_all",
]
