"""Configs with wrong values, each checked within limits of time and memory, in another process."""

import time
import traceback
import warnings
from random import Random

from tests.faults.campaign import wrong
from tests.faults.campaign.figures import Failure
from tests.faults.campaign.starts import CONTEXT
from tests.faults.damage import TooSlow, bounded

_SECONDS_TO_START = 120
_LONGEST = 3000  # message, which can quote long names and values
# The names that are chosen in the sections; the digits of scikit-learn need no files.
_CHOICES = {
    "method": (
        *("none", "sam", "asam", "vasso", "vasso_asam", "friendly_sam", "gsam", "vasso_gsam"),
        *("looksam", "ssam", "wsam", "lesam", "momentum_sam", "preconditioned_sam"),
    ),
    "base": ("sgd", "adam", "adamw"),
    "schedule": ("constant", "cosine", "multistep"),
    "model": ("wrn10_1", "resnet18", "vgg11_bn", "vit_s32", "pyramidnet110"),
    "data": ("digits", "folder", "npz", "cifar10", "imagenet2012"),
}
_FIELDS = {
    "label_noise": {"kind": "symmetric", "rate": 0.1},
    "validation": {"share": 0.1},
    "rho_schedule": {"rho_min": 0.01},
    "window": {"start_epoch": 1.0},
    "augment": {"crop_padding": 1},
}


class Checker:
    """The process; started when it is asked first, and anew after one that had to be killed."""

    def __init__(self):
        self._process = None

    def check(self, seed, seconds):
        """Checks the config that a seed draws.

        Returns:
            (kind of the wrong value, outcome, seconds that it took).

        Raises:
            Failure: it was neither accepted nor refused with one message in `seconds`.
        """
        if self._process is None:
            self._connection, other = CONTEXT.Pipe()
            self._process = CONTEXT.Process(target=_serve, args=(other,), daemon=True)
            self._process.start()
            other.close()
            if not self._connection.poll(_SECONDS_TO_START):
                raise Failure("the process that checks configs does not start")
            self._connection.recv()
        self._connection.send(seed)
        drawn = "a config that was not drawn"
        try:
            kind, drawn = self._receive(seconds)
            began = time.monotonic()
            outcome, failure = self._receive(seconds)
        except (TimeoutError, EOFError) as error:
            self.close()
            raise Failure(f"{drawn}: {error!r} within {seconds} s") from error
        if failure:
            raise Failure(f"{drawn}: {failure}")
        return kind, outcome, time.monotonic() - began

    def _receive(self, seconds):
        if not self._connection.poll(seconds):
            raise TimeoutError
        return self._connection.recv()

    def close(self):
        """Kills the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(connection):
    import jax

    from vasso_jax.train import check, default_config

    warnings.simplefilter("ignore")  # of libraries, about odd values that they can use
    jax.config.update("jax_num_cpu_devices", 1)
    check(default_config())
    connection.send("ready")
    while True:
        kind, drawn, config = _draw(Random(connection.recv()))
        connection.send((kind, drawn))
        outcome, failure = _outcome(check, config) if config else ("refused", "")
        if (kind, outcome) == ("unknown fields", "accepted"):
            outcome, failure = "failed", "an unknown field is accepted"
        connection.send((outcome, failure))


def _draw(random):
    """(kind of the fault, what it is, the config or None where a value cannot be set)."""
    from vasso_jax.train import default_config
    from vasso_jax.train.config.help import fields_of

    config = default_config()
    config.epochs = random.choice([1, 4, 30])
    chosen = {section: random.choice(names) for section, names in _CHOICES.items()}
    for section in random.sample([*_CHOICES], 2):
        config[section] = {"name": chosen[section]}
    for section in random.sample([*_FIELDS], random.randrange(2)):
        config[section] = _FIELDS[section]
    try:
        names = [field.name for field in fields_of(config)]
    except ValueError:  # what is chosen does not fit together
        names = [field.name for field in fields_of(default_config())]
    kind, wrong_fields = "wrong values", {}
    for _ in range(random.choice([1, 1, 2])):
        name = random.choice(names)
        if random.random() < 0.15:
            kind = "unknown fields"
            section = random.choice([*_CHOICES, *_FIELDS, "no_section", ""])
            name = f"{section}.{random.choice(wrong.TEXTS)}" if section else "unknown"
        # None would leave the field out.
        wrong_fields[name] = 1 if kind == "unknown fields" else wrong.value(random)
    config.unlock()
    with config.ignore_type():
        for name, value in [*wrong_fields.items()]:
            section, dot, field = name.partition(".")
            place = config[section] if dot and section in config else config
            try:
                with place.unlocked(), place.ignore_type():
                    place[field if dot and section in config else name] = value
            except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
                return kind, f"{chosen}, {wrong_fields!r:.500}", None
    return kind, f"{chosen}, {wrong_fields!r:.500}", config


def _outcome(check, config):
    """(outcome, what failed)."""
    try:
        with bounded():
            check(config)
    except (ValueError, OSError) as error:
        message = str(error)
        if not message.strip() or len(message) > _LONGEST:
            return "failed", f"no message to read: {message[:_LONGEST]}"
        return "refused", ""
    except (Exception, TooSlow):
        return "failed", traceback.format_exc()
    return "accepted", ""
