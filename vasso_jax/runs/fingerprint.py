"""What a checkpoint says of the files around it: a run resumes only where they still fit it.

A checkpoint is useless beside other settings, other data, or other records than those it was
written with. `RunFolder` compares config.json and dataset.json with what is to be trained; but
these files can be changed, too.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vasso_jax.runs.facts import differing_facts
from vasso_jax.runs.records import Record, digest, until
from vasso_jax.runs.settings import as_json, differences, flatten, may_change

_REMEDY = "bring it back, or start in a new workdir"


def fingerprint(
    settings: Mapping[str, Any], facts: Mapping[str, Any], records: Mapping[str, int]
) -> dict[str, Any]:
    """What a checkpoint keeps, of values that JSON can hold.

    The settings themselves and not a checksum: fields come and go with versions of the code.

    Args:
        settings: of the run, as in config.json.
        facts: about its data, as in dataset.json.
        records: the digest of those that were written before the checkpoint; see
            `RecordFile.digest`.

    Raises:
        ValueError: settings or facts are not valid JSON.
    """
    return {
        "settings": as_json(settings),
        "data": as_json(facts),
        "records": dict(records),
    }


def check_fingerprint(
    found: Mapping[str, Any],
    step: int,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    records: Sequence[Record],
    earlier: Collection[int] = (),
) -> None:
    """Checks that a checkpoint is one of this run, to be resumed there.

    Args:
        found: what the checkpoint keeps, see `fingerprint`.
        step: of the checkpoint.
        settings, facts: of the run that is to resume there.
        records: all of metrics.jsonl; those after the checkpoint do not count.
        earlier: epochs of the run before it was given more; see `RunFolder.earlier_epochs`.

    Raises:
        ValueError: they are others; the message says which file was changed, and what to do.
    """
    kept = until(records, step)
    ignored = may_change(flatten(settings))
    if found["settings"].get("epochs") in earlier:
        ignored |= {"epochs"}
    compared = {
        "config.json": differences(found["settings"], settings, ignored),
        "dataset.json": differing_facts(found["data"], facts),
    }
    for name, changed in compared.items():
        if changed:
            raise ValueError(
                f"{name} is not that of the run that wrote the checkpoint of step {step} "
                f"({'; '.join(changed)}): {_REMEDY}"
            )
    written = found["records"]
    if digest(kept[: written["count"]]) != written:
        raise ValueError(
            f"metrics.jsonl was changed since the checkpoint of step {step} was written, with "
            f"{written['count']} records: {_REMEDY}"
        )
