"""Values that a field of the config is not made for."""

import math

_OBJECTS = (
    *(None, True, False, 0, 1, 2, -1, 7, 2**31, 2**64, 10**30, 10**400),
    *(0.0, -0.0, 0.5, 1.5, -1e-9, 5e-324, 1e300, math.inf, -math.inf, math.nan),
    *((), (1, "a"), [], [1, [2, [3]]], {}, {"a": 1}, {"name": {"name": 1}}, b"bytes", object),
)
TEXTS = (
    *(
        "",
        " ",
        "x",
        "none",
        "None",
        "True",
        "nan",
        "inf",
        "-1",
        "1e400",
        "1_000",
        "0x10",
        "1" * 500,
    ),
    *(
        "a" * 500,
        "[]",
        "(1,",
        "{'a': 1}",
        "'",
        '"',
        "=",
        "--",
        "%s%n",
        "{0}",
        "$HOME",
        "~",
        "../..",
    ),
    *("ünïcödé", "数字", "\U0001f600", "\u202eleft", "line\nbreak", "\t", "\x07", "\x1b[31mred"),
    *("os:system", "json:dumps", "nowhere:x", "tests.train.networks:Nothing", ":", "a:b:c", "."),
    *("1.5", "2", "0.05", "1e-3", "-0", "(5, 10)", "9" * 30),
)


def value(random):
    """A random one."""
    kind = random.randrange(5)
    if kind < 2:
        return random.choice(_OBJECTS)
    if kind == 2:
        return random.choice(TEXTS)
    if kind == 3:
        return random.choice([-1, 1]) * random.choice([random.randrange(1000), random.random()])
    return random.choice([list, tuple])(value(random) for _ in range(random.randrange(4)))
