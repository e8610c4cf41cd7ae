"""The life of a run: check everything, resume or start, train, evaluate, record, save, report.

What holds throughout:
- Whatever the person can get wrong is found before the first step, as a UsageError.
- All randomness follows from the seed and the step; the train state and metrics.jsonl are the only
  memory. So a resumed run takes the very steps that an unbroken one would have taken.
- A record is on disk before the checkpoint of its step.
- The host looks at the device about once a second, not at every step.
"""

import math
import pathlib
import time
from typing import Any

import jax
import numpy as np
from clu import parameter_overview

from vasso_jax import data
from vasso_jax.analysis.curves import plot_curves
from vasso_jax.train import workdir as workdirs
from vasso_jax.train.checkpoint import Checkpoints
from vasso_jax.train.console import Display
from vasso_jax.train.dashboards import open_dashboards
from vasso_jax.train.errors import Stopped, UsageError, usage_errors
from vasso_jax.train.experiment import Experiment, build
from vasso_jax.train.mesh import replicate, replicated
from vasso_jax.train.pace import Pace
from vasso_jax.train.preemption import StopRequests
from vasso_jax.train.records import RecordFile, best_test_top1
from vasso_jax.train.state import TrainState, zero_metrics
from vasso_jax.train.streams import stream_key


def train(config: Any, workdir: str) -> dict[str, Any]:
    """Runs the experiment `config` in the folder `workdir`, from where it stopped if it did.

    Args:
        config: an ml_collections.ConfigDict with the fields of configs/default.py.
        workdir: gets config.json, metrics.jsonl, curves.png and checkpoints/.

    Returns:
        {"test_top1", "best_test_top1", "test_loss", "epochs", "steps", "seconds", "workdir"};
        accuracies in 0..1, the first of the last epoch; seconds over all starts of the run.

    Raises:
        UsageError: bad config, missing data, unusable workdir, damaged checkpoint, full disk, or a
            loss that is no longer finite.
        Stopped: by SIGINT or SIGTERM, after saving; the same call goes on from there.
    """
    if config.distributed:
        _join_cluster()
    primary = jax.process_index() == 0
    display = Display(enabled=primary)
    path = pathlib.Path(workdir).absolute()
    plain_config = config.to_dict()
    dashboards = []
    with usage_errors():
        if primary:
            workdirs.prepare(path, plain_config)
        display.note(f"reading {config.dataset} ...")
        experiment = build(config)
        if primary:
            dashboards = open_dashboards(
                path,
                plain_config,
                tensorboard=config.tensorboard,
                wandb_project=config.wandb_project,
            )
    records = RecordFile(path, writable=primary, dashboards=dashboards)
    checkpoints = Checkpoints(path)
    try:
        state = _start_or_resume(experiment, checkpoints, records, display)
        if int(state.step) < experiment.total_steps:
            _Fit(experiment, state, checkpoints, records, display).run()
        return _report(experiment, path, records, display)
    finally:
        display.stop()
        checkpoints.close()
        records.close()


def _join_cluster() -> None:
    try:
        jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"distributed=True, but this process could not join a cluster ({error}): start one "
            "process a host under Slurm, Open MPI, Kubernetes or on a TPU pod, or leave the field "
            "out on a single machine"
        ) from error


def _start_or_resume(
    experiment: Experiment, checkpoints: Checkpoints, records: RecordFile, display: Display
) -> TrainState:
    """The state to go on from; prints the opening block."""
    state = experiment.create_state()
    step = checkpoints.latest_step()
    if step is not None:
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
        )
        state = checkpoints.restore(step, abstract)
    records.keep_until(step or 0)

    train, test = experiment.dataset.train, experiment.dataset.test
    kind = experiment.mesh.devices.flat[0].device_kind
    hosts = f" on {jax.process_count()} hosts" if jax.process_count() > 1 else ""
    shape = "x".join(map(str, train.images.shape[1:]))
    total = experiment.total_steps
    if step == total:
        progress = f"this run has finished all its {total} steps; nothing to do"
    else:
        start = f"going on from step {step} of" if step else ""
        progress = f"{start} {total} = {experiment.epochs} epochs of {experiment.steps_per_epoch}"
    display.opening(
        {
            "devices": f"{experiment.mesh.size} x {kind}{hosts}",
            "data": f"{experiment.dataset.name}, {len(train.labels):,} training and "
            f"{len(test.labels):,} test images of {shape}",
            "model": f"{experiment.model_name}, "
            f"{parameter_overview.count_parameters(state.params):,} parameters",
            "optimizer": experiment.optimizer_words,
            "steps": progress.strip(),
        }
    )
    return state


class _Fit:
    """Training from the given state to the last epoch."""

    def __init__(
        self,
        experiment: Experiment,
        state: TrainState,
        checkpoints: Checkpoints,
        records: RecordFile,
        display: Display,
    ):
        self._experiment = experiment
        self._state = state
        self._step = int(state.step)
        self._checkpoints = checkpoints
        self._records = records
        self._display = display
        self._stop = StopRequests()

        mesh = experiment.mesh
        self._train = replicate(experiment.dataset.train, mesh)
        self._test = replicate(experiment.dataset.test, mesh)
        self._epoch_order = jax.jit(self._order_of, out_shardings=replicated(mesh))
        self._reset_metrics = jax.jit(zero_metrics, out_shardings=replicated(mesh))
        self._pace = Pace(experiment.batch_size)
        self._compiled = False
        # Trees come back from the device sorted by name; records keep the order of importance.
        self._metric_names = [name for name in zero_metrics(state.opt_state) if name != "steps"]
        earlier = records.records[-1]["seconds"] if records.records else 0.0
        self._started = time.perf_counter() - earlier

    def run(self) -> None:
        self._display.start(self._experiment.total_steps, self._step)
        first = self._step // self._experiment.steps_per_epoch
        with self._stop:
            for epoch in range(first, self._experiment.epochs):
                self._train_epoch(epoch)
                self._finish_epoch(epoch)
        self._checkpoints.wait()

    def _order_of(self, epoch: jax.Array) -> jax.Array:
        key = jax.random.fold_in(stream_key(self._experiment.seed, "order"), epoch)
        return data.epoch_order(key, len(self._train.labels), self._experiment.batch_size)

    def _train_epoch(self, epoch: int) -> None:
        order = self._epoch_order(np.int32(epoch))
        end = (epoch + 1) * self._experiment.steps_per_epoch
        save_every = self._experiment.checkpoint_every_steps
        self._pace.restart()
        while self._step < end:
            self._state = self._experiment.train_step(self._state, *self._train, order)
            self._step += 1
            if not self._compiled:
                # The speed reported is that of the steps, not of the compiler.
                jax.block_until_ready(self._state.step)
                self._compiled = True
                self._pace.restart()
            elif self._pace.due():
                metrics = self._mean_metrics()
                self._pace.looked()
                total, speed = self._experiment.total_steps, self._pace.images_per_second()
                self._display.advance(self._step, total, metrics, speed)
            stopping = self._stop.arrived(self._step)
            if self._step < end and (stopping or (save_every and self._step % save_every == 0)):
                self._checkpoints.save(self._step, self._state)
                self._end_if_told()
                self._pace.restart()

    def _finish_epoch(self, epoch: int) -> None:
        """Records the epoch, evaluates, saves."""
        metrics = self._mean_metrics()
        self._pace.looked()
        self._state = self._state.replace(metric_sums=self._reset_metrics(self._state.opt_state))
        test_metrics = None
        if (epoch + 1) % self._experiment.eval_every_epochs == 0 or self._is_last(epoch):
            test_metrics = self._evaluate()
        common = {"step": self._step, "epoch": epoch + 1}
        lr = float(np.asarray(self._experiment.schedule(self._step - 1)))
        seconds = round(time.perf_counter() - self._started, 3)
        speed = round(self._pace.images_per_second(), 1)
        self._pace.reset()
        train = {**common, "split": "train", **metrics, "lr": lr}
        train |= {"images_per_second": speed, "seconds": seconds}
        self._records.append(train)
        test = None
        if test_metrics:
            test = {**common, "split": "test", **test_metrics, "lr": lr, "seconds": seconds}
            self._records.append(test)
        self._display.epoch(self._experiment.epochs, train, test)
        self._checkpoints.save(self._step, self._state, test["top1"] if test else None)
        if not self._is_last(epoch):
            self._end_if_told()

    def _is_last(self, epoch: int) -> bool:
        return epoch + 1 == self._experiment.epochs

    def _end_if_told(self) -> None:
        if self._stop.signal:
            self._checkpoints.wait()
            raise Stopped(self._step, self._experiment.total_steps, self._stop.signal)

    def _mean_metrics(self) -> dict[str, float]:
        """Per-step means since the epoch began; waits for the device."""
        sums = jax.device_get(self._state.metric_sums)
        means = {name: float(sums[name] / sums["steps"]) for name in self._metric_names}
        if not math.isfinite(means["loss"]):
            saved = self._checkpoints.latest_step()
            raise UsageError(
                f"the training loss is {means['loss']} at step {self._step}: the run diverged. "
                "Try a smaller lr or rho, a longer warmup_epochs, or clip_norm, in a new workdir. "
                + (f"The checkpoint of step {saved} is kept." if saved else "Nothing was saved.")
            )
        return means

    def _evaluate(self) -> dict[str, float]:
        """Loss, top-1 and top-5 over the test split, every image counted once."""
        batch_size, examples = self._experiment.batch_size, len(self._test.labels)
        batches = [
            self._experiment.eval_step(self._state, *self._test, np.int32(start))
            for start in range(0, examples, batch_size)
        ]
        sums = jax.tree.map(lambda *x: math.fsum(map(float, x)), *jax.device_get(batches))
        count = sums.pop("examples")
        return {name: value / count for name, value in sums.items()}


def _report(
    experiment: Experiment, workdir: pathlib.Path, records: RecordFile, display: Display
) -> dict[str, Any]:
    """Draws the curves, prints the closing table, and returns the result of a finished run."""
    display.stop()
    last = [record for record in records.records if record["split"] == "test"][-1]
    result = {
        "test_top1": last["top1"],
        "best_test_top1": best_test_top1(records.records),
        "test_loss": last["loss"],
        "epochs": experiment.epochs,
        "steps": experiment.total_steps,
        "seconds": last["seconds"],
        "workdir": str(workdir),
    }
    if jax.process_index() == 0:
        with usage_errors():
            plot_curves(records.records, workdir / "curves.png", experiment.title)
    display.closing(
        [
            ("test top-1, last epoch", f"{result['test_top1']:.4f}"),
            ("test top-1, best epoch", f"{result['best_test_top1']:.4f}"),
            ("test loss, last epoch", f"{result['test_loss']:.4f}"),
            ("epochs, steps", f"{result['epochs']}, {result['steps']:,}"),
            ("time", f"{result['seconds']:.1f} s"),
            ("workdir", str(workdir)),
        ]
    )
    return result
