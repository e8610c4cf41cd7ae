"""Run folders as the trainer leaves them."""

import json

from vasso_jax.runs import RunFolder

DATA = {"name": "digits", "train_images": 8, "label_noise": {"seed": 3}}
VASSO = {"name": "vasso", "rho": 0.1, "theta": 0.4, "accumulator_dtype": "float32"}
SAM = {"name": "sam", "rho": 0.1}
# A field of every kind: in and outside of sections, seeds, incidental ones, lists, none at all.
SETTINGS = {
    "method": VASSO,
    "base": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": False},
    "schedule": {"name": "multistep", "milestones": (1, 2), "warmup_epochs": 0.0},
    "model": {"name": "wrn10_1", "dtype": "float32", "remat": False},
    "data": {"name": "digits", "dir": "", "split_seed": 0, "workers": 0, "on_damaged": "stop"},
    "label_noise": {},
    "augment": {"crop_padding": 1, "flip": False},
    "init_from": None,
    "epochs": 2,
    "batch_size": 128,
    "seed": 0,
    "batch_stats_over": "batch",
    "microbatches": 1,
    "fsdp": 1,
    "distributed": False,
    "tensorboard": True,
    "wandb_project": "",
    "checkpoint_every_steps": 0,
    "keep_last": 3,
    "recheck_every_steps": 0,
    "stall_timeout": 1800.0,
}


def changed(settings, **fields):
    """A copy with other fields; double underscores are the dots: changed(s, data__dir="a")."""
    settings = {
        name: dict(value) if isinstance(value, dict) else value for name, value in settings.items()
    }
    for name, value in fields.items():
        *section, last = name.split("__")
        (settings[section[0]] if section else settings)[last] = value
    return settings


def write_run(path, *top1s, loss=0.5, data=DATA, settings=SETTINGS, **fields):
    """A run folder with a test record for each of `top1s`; `fields` as for `changed`."""
    folder = RunFolder(path)
    settings = changed(settings, **fields)
    folder.open_for(settings)
    folder.write_facts(settings, data)
    lines = []
    for epoch, top1 in enumerate(top1s, start=1):
        record = {"step": 10 * epoch, "epoch": epoch, "loss": loss, "seconds": 3.0 * epoch}
        lines += [{**record, "split": "train", "top1": 1.0}]
        lines += [{**record, "split": "test", "top1": top1}]
    folder.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_validated(path, *top1s, best, last, **fields):
    """As `write_run`, but `top1s` are of the validation; the test at the end gives the other two.

    The best checkpoint is that of the first of the highest `top1s`.
    """
    run = write_run(path, *top1s, epochs=len(top1s), **fields)
    records = RunFolder(run).metrics_path
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    for line in lines:
        line["split"] = line["split"].replace("test", "validation")
    at_best = lines[2 * top1s.index(max(top1s)) + 1]
    lines.append({**at_best, "split": "test", "checkpoint": "best", "top1": best})
    lines.append({**lines[-2], "split": "test", "top1": last})
    records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def write_two_methods(folder):
    """VaSSO with three seeds, SAM with two."""
    vasso = [
        write_run(folder / f"vasso{seed}", best, last, seed=seed)
        for seed, (best, last) in enumerate([(0.75, 0.5), (0.25, 0.75), (0.5, 1.0)])
    ]
    sam = [write_run(folder / f"sam{seed}", 0.25, 0.25, method=SAM, seed=seed) for seed in (0, 1)]
    return [*vasso, *sam]
