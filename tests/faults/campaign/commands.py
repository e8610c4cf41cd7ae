"""Command lines of main.py with wrong fields and paths."""

import pathlib
import resource
import shutil

from tests import runs
from tests.faults.campaign import wrong
from tests.train.networks import SMALL

_SECONDS = 15  # of processor time
_BYTES = 1 << 30  # beyond what all modules take
_FIELDS = (
    *(
        "epochs",
        "batch_size",
        "seed",
        "label_smoothing",
        "batch_stats",
        "microbatches",
        "keep_last",
    ),
    *(
        "ema_decay",
        "patience",
        "fsdp",
        "stall_timeout",
        "recheck_every_steps",
        "eval_every_epochs",
        "tensorboard",
    ),
    *("method.rho", "method.theta", "method.name", "method.mask", "base.lr", "base.momentum"),
    *("base.weight_decay", "base.name", "schedule.name", "schedule.warmup_epochs", "model.name"),
    *(
        "model.dtype",
        "data.name",
        "data.dir",
        "augment.crop_padding",
        "augment.flip",
        "window.stop",
    ),
    *("validation.share", "label_noise.rate", "label_noise.kind", "rho_schedule.rho_min"),
)


def draw_command(random, scratch):
    """A random one.

    Args:
        random: what draws.
        scratch: a folder for its files.

    Returns:
        (what is wrong, the function that takes the arguments in a warm process, the arguments).
    """
    kind = random.choice(["field", "unknown field", "--workdir", "--config", "path of data"])
    workdir = str(scratch / "run")
    config, *others = runs.arguments(workdir, SMALL, "epochs=1")
    others.remove(f"--workdir={workdir}")
    target = run_limited
    if kind == "field":
        target = check_limited
        others += [_field(random, random.choice(_FIELDS)) for _ in range(random.choice([1, 1, 2]))]
    elif kind == "unknown field":
        target = check_limited
        name = random.choice(_FIELDS)
        cut = random.randrange(len(name))
        others.append(_field(random, name[:cut] + random.choice("xyz._ü") + name[cut:]))
    elif kind == "--workdir":
        workdir = _path(random, scratch)
    elif kind == "--config":
        config = f"--config={_path(random, scratch)}{random.choice(['', ':vasso', ':', ':x'])}"
    else:
        name = random.choice(["data.dir", "init_from"])
        if name == "data.dir":
            others.append(f"--config.data.name={random.choice(['folder', 'npz', 'mnist'])}")
        others.append(f"--config.{name}={_path(random, scratch) or '-'}")
    return f"command line: {kind}", target, [config, *others, f"--workdir={workdir}"]


def _field(random, name):
    return f"--config.{name}={random.choice(wrong.TEXTS)}"


def _path(random, scratch):
    """One at which something else is, or nothing."""
    folder = scratch / random.choice(["place", "plāce", "a place", "\x1b[31mplace", "p%s{0}"])
    folder.mkdir()
    (folder / "file").write_bytes(random.choice([b"", b"x", b"\0" * 100, random.randbytes(1000)]))
    for name in ("metrics.jsonl", "config.json", "run.lock", "checkpoints", "train", "train.npz"):
        if random.random() < 0.3:
            shutil.copy(folder / "file", folder / name)
        elif random.random() < 0.3:
            (folder / name).mkdir()
    (folder / "link").symlink_to(random.choice(["link", "nothing", "file", "/dev/null"]))
    below = random.choice(
        ["", "", "file", "file/below", "link", "link/below", "nothing", "x" * 300]
    )
    return random.choice([str(folder / below)] * 6 + ["/dev/null", "/proc/none", "/dev/full/x"])


def run_limited(arguments):
    """main.py with limited processor time and memory until it trains: then all was accepted."""
    from vasso_jax.cli.main import run
    from vasso_jax.train.loop import Trainer

    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limits = {
        resource.RLIMIT_AS: pages * resource.getpagesize() + _BYTES,
        resource.RLIMIT_CPU: _SECONDS,
    }
    before = {which: resource.getrlimit(which) for which in limits}
    train = Trainer.run

    def unlimited(trainer):
        for which, limit in before.items():
            resource.setrlimit(which, limit)
        train(trainer)

    Trainer.run = unlimited
    for which, limit in limits.items():
        resource.setrlimit(which, (limit, before[which][1]))
    run("train", arguments)


def check_limited(arguments):
    """The same, where what is accepted is not run."""
    from vasso_jax import train

    train.run_plan = lambda plan, workdir: {}
    run_limited(arguments)
