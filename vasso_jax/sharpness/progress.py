"""Reports of how many passes of a measurement are done."""

from collections.abc import Callable

Progress = Callable[[int, int], None]


def counter(progress: Progress | None, expected: int) -> Callable[[], None]:
    """A function to call after each pass: it calls `progress(passes done, passes expected)`."""
    done = 0

    def report() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, expected)

    return report
