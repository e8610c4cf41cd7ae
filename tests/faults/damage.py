"""Files as they get damaged, and what a reader of them may do."""

import contextlib
import pathlib
import resource
import signal
import warnings

from hypothesis import settings
from hypothesis import strategies as st

from vasso_jax.train.errors import UsageError

_SECONDS = 20  # of work by the processor, not of waiting for its turn
_BYTES = 1 << 30


class TooSlow(BaseException):
    """No Exception, so that no reader takes it for damage of its file."""


def examples(share):
    """Settings of a test: this share of the examples of the profile, which may be chosen.

    The profile `thorough`, by `pytest --hypothesis-profile=thorough`, has a hundred times as many.
    """
    return settings(max_examples=max(1, round(share * settings.default.max_examples)))


@st.composite
def damaged(draw, *valid):
    """One of the `valid` contents of a file (bytes) after one to four changes.

    Places near either end are as likely as all others, since headers and indices are there.
    """
    content = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 4))):
        change = draw(st.sampled_from(_CHANGES))
        start = _place(draw, len(content))
        length = draw(st.integers(1, draw(st.sampled_from([16, max(1, len(content))]))))
        content = change(draw, content, start, start + length, valid)
    return bytes(content)


def _place(draw, size):
    """An index up to `size`."""
    near = min(size, 200)
    # Drawn first: of alternatives that are equal, `a | b` keeps one or both, by hypothesis' cache.
    first, last = draw(st.sampled_from([(0, near), (size - near, size), (0, size)]))
    return draw(st.integers(first, last))


def _flip(draw, content, start, end, valid):
    if start < len(content):
        content[start] ^= draw(st.integers(1, 255))
    return content


def _overwrite(draw, content, start, end, valid):
    # Numbers at which sizes and counts become too large or negative.
    value = draw(st.sampled_from([b"\xff" * 8, bytes(8), b"\xff\xff\xff\x7f", b"\x80", b"9" * 9]))
    return content[:start] + value + content[start + len(value) :]


def _cut(draw, content, start, end, valid):
    return content[:start]


def _remove(draw, content, start, end, valid):
    return content[:start] + content[end:]


def _insert(draw, content, start, end, valid):
    return content[:start] + draw(st.binary(min_size=1, max_size=20)) + content[start:]


def _repeat(draw, content, start, end, valid):
    return content[:end] + content[start:]


def _swap(draw, content, start, end, valid):
    middle = (start + end) // 2
    return content[:start] + content[middle:end] + content[start:middle] + content[end:]


def _splice(draw, content, start, end, valid):
    other = draw(st.sampled_from(valid))
    return content[:start] + other[_place(draw, len(other)) :]


def _nest(draw, content, start, end, valid):
    return (
        content[:start] + draw(st.sampled_from([b"[", b'{"a":', b"("])) * 20_000 + content[start:]
    )


_CHANGES = (_flip, _overwrite, _cut, _remove, _insert, _repeat, _swap, _splice, _nest)


def read_or_refuse(read, name):
    """Calls `read()`: it may succeed, or raise what the user can fix, in one line with `name`.

    It fails if it takes long or much memory.

    Returns:
        Whether it was read.
    """
    refusals = []
    with bounded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn of odd files that they can read
        try:
            read()
        except (ValueError, OSError, UsageError) as error:
            refusals.append(error)
    for error in refusals:
        message = str(error)
        assert str(name) in message, repr(error)
        assert len(message.splitlines()) == 1, message
        assert len(message) < 1000, message
        assert not any(isinstance(cause, MemoryError) for cause in _causes(error)), message
    return not refusals


def _causes(error):
    while error := error.__cause__ or error.__context__:
        yield error


@contextlib.contextmanager
def bounded():
    """Within, this process may work for `_SECONDS`, and take `_BYTES` more than it has."""

    def stop(number, frame):
        raise TooSlow

    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    try:
        pages = pathlib.Path("/proc/self/statm")
        if pages.exists():  # on Linux
            has = int(pages.read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (has + _BYTES, before[1]))
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
