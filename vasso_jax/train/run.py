"""The life of a run: check everything, resume or start, train, evaluate, record, save, report.

What holds throughout:
- Whatever the user can get wrong is found before the first step, as a UsageError.
- All randomness follows from the seed and the step; the train state and metrics.jsonl are the only
  memory. So a resumed run takes the very steps that an unbroken one would have taken.
- A record is on disk before the checkpoint of its step, but for the test at the end of a run with
  a validation split.
- The host looks at the device about once per second, not at every step.
"""

import contextlib
import json
import os
import pathlib
from typing import Any

import flax.linen as nn
import numpy as np
import optax
from clu import parameter_overview

from vasso_jax import data, runs
from vasso_jax.names import expanded
from vasso_jax.train.checkpoints.checkpoint import Checkpoints
from vasso_jax.train.checkpoints.weights import checkpoint_of
from vasso_jax.train.devices import processes
from vasso_jax.train.errors import UsageError, usage_errors
from vasso_jax.train.goodput import Account
from vasso_jax.train.loop import Trainer
from vasso_jax.train.plan import Experiment, Plan, check
from vasso_jax.train.reporting.closing import closing_rows, result_of
from vasso_jax.train.reporting.console import Display
from vasso_jax.train.reporting.dashboards import open_dashboards
from vasso_jax.train.reporting.diagnosis import doubts, symptoms
from vasso_jax.train.resume import check_nothing_lost, start_or_resume
from vasso_jax.train.steps.state import TrainState


def train(
    config: Any,
    workdir: str,
    *,
    model: nn.Module | None = None,
    dataset: data.ImageDataset | data.StreamedDataset | None = None,
    tx: optax.GradientTransformation | None = None,
) -> dict[str, Any]:
    """Runs the experiment `config` in the folder `workdir`, from where it stopped if it did.

    Args:
        config: an ml_collections.ConfigDict that began as `default_config()`.
        workdir: the run folder; `vasso_jax.runs` says what is in it.
        model: takes the place of the section `model`: a Flax Linen module called as `(images,
            train) -> logits [B, num_classes]`.
        dataset: takes the place of the section `data`.
        tx: takes the place of the sections `method`, `rho_schedule`, `window`, `base` and
            `schedule`: any
            optax transform that takes each batch whole, so without `microbatches`. An
            `optax.MultiSteps` belongs around the base of a sharpness-aware optimizer.

    Returns:
        {"test_top1", "best_test_top1", "test_loss", "epochs", "steps", "seconds", "workdir"}:
        accuracies in 0..1 and loss of the last epoch's weights, but `best_test_top1` of the best
        checkpoint; epochs and steps that were trained; seconds spent in training and evaluation,
        over all starts of the run. With a validation split, the best checkpoint is that of the best
        validation accuracy, and there are `validation_top1` and `best_validation_top1`, too.
        Without one it is that of the best test accuracy. With `ema_decay`, there is the same of
        the average of the weights, such as `ema_test_top1`, and that ranks the checkpoints. If a
        method did not do what it is for, `warnings` says so.

    Raises:
        UsageError: bad config, missing data, unusable workdir, damaged checkpoint, full disk, or
            divergence. Where its `status` is 75, the same call may succeed: another process was
            lost, or a step that was computed twice came out differently.
        Stopped: by SIGINT or SIGTERM, after saving; the same call resumes there.
    """
    with usage_errors():
        plan = check(config, model=model, dataset=dataset, tx=tx)
    return run_plan(plan, workdir)


def run_plan(plan: Plan, workdir: str) -> dict[str, Any]:
    """Runs a checked plan; arguments, result and errors otherwise as for `train`."""
    if not isinstance(workdir, str | os.PathLike):
        raise UsageError(f"workdir must be the path of a folder, got {workdir!r}")
    display = Display(enabled=processes.is_first())
    with usage_errors():
        folder = runs.RunFolder(expanded(workdir).absolute())
    account = Account()
    is_new = processes.is_first() and not os.path.exists(folder.path)
    with contextlib.ExitStack() as held, processes.leaving_the_lost():
        processes.on_first(lambda: account.sign_at(held.enter_context(folder.lock(display.warn))))
        try:
            return _run(plan, folder, display, account)
        finally:
            if is_new:
                folder.remove_if_empty()


def _run(plan: Plan, folder: runs.RunFolder, display: Display, account: Account) -> dict[str, Any]:
    """Runs a plan in a folder that no other run uses."""
    processes.on_first(lambda: folder.open_for(plan.settings))
    with usage_errors():
        records = runs.RecordFile(folder.metrics_path, writable=processes.is_first())
    checkpoints = Checkpoints(
        folder.checkpoints_path,
        keep_last=plan.options.keep_last,
        ranked=lambda steps: runs.by_rank(records.records, steps),
    )
    try:
        with processes.leaving_the_lost():  # closing the checkpoints may wait for it
            finished = _has_finished(plan, checkpoints, records)
            if finished:
                display.note("this run has finished; nothing to do")
            else:
                _train(plan, folder, records, checkpoints, display, account)
            return _report(plan, folder, records, display, draw=not finished)
    finally:
        display.stop()
        records.close()
        checkpoints.close()


def _train(
    plan: Plan,
    folder: runs.RunFolder,
    records: runs.RecordFile,
    checkpoints: Checkpoints,
    display: Display,
    account: Account,
) -> None:
    """Reads the data, and trains or evaluates to the end."""
    weights = None
    if checkpoints.latest_step() is None:
        check_nothing_lost(records.records)
        if plan.options.init_from:
            with usage_errors():
                weights = checkpoint_of(plan.options.init_from)
    experiment = open_experiment(plan, display)

    def open_folder() -> None:
        dashboards = open_dashboards(
            folder,
            plan.settings,
            tensorboard=plan.options.tensorboard,
            wandb_project=plan.options.wandb_project,
        )
        records.show_on(dashboards)
        folder.write_facts(plan.settings, experiment.dataset_facts)

    with usage_errors():
        extended_from = folder.extended_from(plan.settings)
    processes.on_first(open_folder)
    state = start_or_resume(experiment, weights, checkpoints, records, folder, display, account)
    display.opening(_opening(experiment, state, weights))
    if extended_from:
        display.note(_extension(extended_from, experiment, records))
    for doubt in doubts(plan.settings):
        display.warn(doubt)
    trainer = Trainer(experiment, state, checkpoints, records, display, account)
    del state  # the trainer replaces it, and there may be no room for two
    trainer.run()


def open_experiment(plan: Plan, display: Display) -> Experiment:
    """Prepares and reads the data of a plan, and builds its program.

    Raises:
        UsageError: the data is missing or does not fit the plan.
    """
    processes.on_first(lambda: plan.source.prepare(display.console))
    display.note(f"reading {plan.settings['data']['name']} ...")

    def open_plan() -> tuple[Experiment, str]:
        dataset = plan.source.load()
        display.note("building the network ...")
        experiment = plan.open(dataset)
        return experiment, json.dumps(experiment.dataset_facts)

    return processes.on_all(open_plan)


def _extension(extended_from: int, experiment: Experiment, records: runs.RecordFile) -> str:
    """What becomes of a finished run that is given more epochs."""
    epochs = experiment.plan.options.epochs
    text = f"extending the run from {extended_from} to {epochs} epochs"
    schedule = experiment.program.schedule
    if schedule is None:
        return text
    ended_at = next(record["lr"] for record in reversed(records.records) if "lr" in record)
    rate = float(np.asarray(schedule(records.records[-1]["step"])))
    return (
        f"{text}: the schedules now are those of {epochs} epochs, so the learning rate goes on at "
        f"{rate:.2g}, where it ended at {ended_at:.2g}"
    )


def _has_finished(plan: Plan, checkpoints: Checkpoints, records: runs.RecordFile) -> bool:
    complete = runs.is_complete(records.records, plan.options.epochs, plan.options.patience)
    return complete and records.records[-1]["step"] == checkpoints.latest_step()


def _opening(
    experiment: Experiment, state: TrainState, weights: pathlib.Path | None
) -> dict[str, str]:
    """The facts of the opening block."""
    plan, program, step = experiment.plan, experiment.program, int(state.step)
    kind = plan.mesh.devices.flat[0].device_kind
    hosts = f" on {processes.count()} hosts" if processes.several() else ""
    parts = plan.mesh.shape["fsdp"]
    spread = f", parameters over {parts}" if parts > 1 else ""
    start = f"resuming at step {step} of " if step else ""
    epochs = plan.options.epochs
    batch_size, devices = plan.options.batch_size, plan.mesh.size
    each = f" ({batch_size // devices} per device)" if devices > 1 else ""
    length = (
        f"{experiment.total_steps} = {epochs} epochs of {program.steps_per_epoch}, "
        f"batches of {batch_size}{each}"
    )
    name = plan.settings["model"]["name"]
    if name == "given":
        name = type(program.model).__name__
    parameters = parameter_overview.count_parameters(state.params)
    return {
        "devices": f"{plan.mesh.size} x {kind}{hosts}{spread}",
        "data": runs.summary(experiment.dataset_facts),
        "model": f"{name}, {parameters:,} parameters",
        "optimizer": plan.optimizer_summary,
        "steps": f"{start}{length}" if epochs else "none",
        **({"weights": f"from {weights}"} if weights else {}),
    }


def _report(
    plan: Plan,
    folder: runs.RunFolder,
    records: runs.RecordFile,
    display: Display,
    draw: bool,
) -> dict[str, Any]:
    """Draws the curves, prints the closing table, and returns the result of a finished run."""
    display.stop()
    run = runs.Run(folder.path, runs.flatten(plan.settings), {}, records.records)
    # A run killed after its last checkpoint has no picture yet.
    if processes.is_first() and (draw or not folder.curves_path.exists()):
        with usage_errors():
            runs.plot_curves(records.records, folder.curves_path, folder.path.name)
    display.closing(closing_rows(run))
    warnings = [*doubts(plan.settings), *symptoms(run.training, ended=True)]
    for warning in warnings:
        display.note(f"warning: {warning}")
    return result_of(run, warnings)
