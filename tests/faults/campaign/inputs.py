"""Wrong values, fields and paths: each is refused with one message, or is a healthy plan."""

from tests.faults.campaign.checker import Checker
from tests.faults.campaign.commands import draw_command
from tests.faults.campaign.figures import Failure
from tests.faults.campaign.starts import Hang, Start

PART = "inputs"
_SECONDS = 15
_CONFIGS = 25  # for each command line, which takes longer
__all__ = ["PART", "Checker", "trial"]


def trial(random, checker, scratch, figures):
    """Gives some configs to `check`, and one command line to main.py.

    Args:
        random: of this trial.
        checker: a `Checker`.
        scratch: an empty folder.
        figures: is told of each outcome.
    """
    failures = []
    for _ in range(_CONFIGS):
        try:
            kind, outcome, seconds = checker.check(random.random(), _SECONDS)
        except Failure as error:
            failures.append(str(error))
            continue
        figures.count(PART, kind, outcome)
        figures.time(PART, "a config to check", seconds)
    if failures:
        raise Failure("\n".join(failures))
    kind, target, arguments = draw_command(random, scratch)
    try:
        end = Start(arguments, scratch, target=target).end(_SECONDS)
    except Hang as error:
        raise Failure(f"{arguments!r}: {error}") from error
    if "Traceback" in end.out + end.err or not (end.status == 0 or end.is_refusal):
        raise Failure(f"{arguments!r}: {end.status}; it said:\n{end.out[-1500:]}{end.err[-1500:]}")
    figures.count(PART, kind, "refused" if end.status else "accepted")
    figures.time(PART, "a command line", end.seconds)
