"""The settings of a run: dotted names, and when two sets of settings are the same run.

Resuming and comparing follow the one rule stated here. Settings are nested dicts. A field is named
by its path, such as `method.rho`. Tuples and lists are values.
"""

import json
import reprlib
from collections.abc import Iterator, Mapping, Set
from typing import Any

from vasso_jax.names import is_own

# These say where things are, how they are shown or how much memory they take. They may change when
# a run is resumed, and they do not make it another experiment.
MAY_CHANGE = frozenset(
    {
        *("data.dir", "data.workers", "data.on_damaged", "distributed", "fsdp"),
        "model.remat",
        *("tensorboard", "wandb_project"),
        *("checkpoint_every_steps", "keep_last", "recheck_every_steps", "stall_timeout"),
    }
)
# These do not make it another experiment either, but a run keeps them: what is in its folder
# depends on them.
_OF_RECORDS = frozenset({"record_every_steps", "keep_every_epochs", "sharpness_every_epochs"})
# Runs that differ in these fields only are repetitions of one experiment.
SEEDS = ("seed", "label_noise.seed", "method.seed", "validation.seed")
# These data sets are whatever lies in their folder.
_NAMED_BY_FOLDER = frozenset({"folder", "npz"})


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields by their dotted names: {"method": {"rho": 0.1}} becomes {"method.rho": 0.1}.

    An empty section is kept as a field of its own, such as {"label_noise": {}}.

    Raises:
        ValueError: a key contains a dot, so that names would be ambiguous.
    """
    fields: dict[str, Any] = {}
    for key, value in settings.items():
        if "." in key:
            raise ValueError(f"the name of a setting cannot contain a dot: {key!r}")
        if isinstance(value, Mapping) and value:
            fields |= {f"{key}.{name}": inner for name, inner in flatten(value).items()}
        else:
            fields[key] = value
    return fields


def may_change(fields: Mapping[str, Any]) -> frozenset[str]:
    """The names of the fields that may change without making it another run.

    This is MAY_CHANGE, without `data.dir` if that is what identifies the data set: for `folder`,
    `npz`, and the user's own data sets (`pkg.module:Name`). It is also without `model.remat` for
    the user's own networks, where that may mean anything.

    Args:
        fields: all settings by dotted name, see `flatten`.
    """
    data, model = str(fields.get("data.name")), str(fields.get("model.name"))
    by_folder = data in _NAMED_BY_FOLDER or is_own(data)
    return MAY_CHANGE.difference(
        ("data.dir",) if by_folder else (), ("model.remat",) if is_own(model) else ()
    )


def identity(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that make a run the experiment it is.

    These are the fields that are set and neither a seed, nor in `may_change`, nor about records.

    Args:
        fields: all settings by dotted name, see `flatten`.
    """
    left_out = may_change(fields).union(SEEDS, _OF_RECORDS)
    return {k: v for k, v in fields.items() if k not in left_out and is_set(v)}


def is_set(value: Any) -> bool:
    """False for None, the empty string and an empty section."""
    return value not in (None, "", {})


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], ignored: Set[str] = frozenset()
) -> list[str]:
    """What differs, as phrases such as `method.rho=0.1 there, 0.2 here`, sorted by name.

    A field or section that only one of the two has is no difference, as it may have come or gone
    with a version of the code; except within a section whose name is the user's own
    (`pkg.module:Name`), where it is one. An empty section differs from one with content, and `name`
    fields differ like any other, so `sam` with fewer fields is not taken for `vasso`.

    Args:
        old: nested dicts, "there" in the phrases.
        new: nested dicts, "here" in the phrases.
        ignored: dotted names that are not compared.

    Raises:
        ValueError: a value is not valid JSON.
    """
    return [
        f"{name}={reprlib.repr(there)} there, {reprlib.repr(here)} here"
        for name, there, here in _changed(as_json(old), as_json(new))
        if name not in ignored
    ]


def _changed(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "", own: bool = False
) -> Iterator[tuple[str, Any, Any]]:
    own = own or (is_own(str(old.get("name"))) and old.get("name") == new.get("name"))
    for key in sorted(old.keys() | new.keys() if own else old.keys() & new.keys()):
        there, here = old.get(key), new.get(key)
        if isinstance(there, dict) and isinstance(here, dict) and there and here:
            yield from _changed(there, here, f"{prefix}{key}.", own)
        elif not _same(there, here) and (is_set(there) or is_set(here)):
            yield prefix + key, there, here


def _same(there: Any, here: Any) -> bool:
    # NaN differs from itself, but not as text.
    return there == here or json.dumps(there) == json.dumps(here)


def as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they are after writing and reading: tuples become lists.

    Raises:
        ValueError: a value is not valid JSON.
    """
    try:
        return json.loads(json.dumps(settings))
    except TypeError as error:
        raise ValueError(f"settings must be valid JSON ({error})") from error
