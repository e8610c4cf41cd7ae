"""The training loop: steps, progress, evaluation, records and checkpoints."""

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax

from vasso_jax.runs import (
    Record,
    RecordFile,
    fingerprint,
    is_complete,
    of_split,
    out_of_patience,
    rank,
)
from vasso_jax.train.checkpoints.checkpoint import Checkpoints
from vasso_jax.train.checkpoints.healing import restore_first_whole
from vasso_jax.train.checkpoints.pacing import PacedCheckpoints
from vasso_jax.train.devices import processes
from vasso_jax.train.devices.sharding import replicated
from vasso_jax.train.devices.watchdog import Watchdog
from vasso_jax.train.divergence import DivergenceCheck
from vasso_jax.train.errors import DataError, usage_errors
from vasso_jax.train.evaluation import evaluate, skipped_images
from vasso_jax.train.goodput import Account
from vasso_jax.train.plan import Experiment
from vasso_jax.train.recheck import RecheckedStep
from vasso_jax.train.reporting.console import Display
from vasso_jax.train.reporting.diagnosis import symptoms
from vasso_jax.train.steps.state import MetricSum, TrainState, means
from vasso_jax.train.steps.successive import SuccessiveDirections
from vasso_jax.train.timer import Timer

if TYPE_CHECKING:
    from vasso_jax.train.epoch_sharpness import EpochSharpness


class Trainer:
    """Trains from the given state to the last epoch."""

    def __init__(
        self,
        experiment: Experiment,
        state: TrainState,
        checkpoints: Checkpoints,
        records: RecordFile,
        display: Display,
        account: Account,
    ):
        self._options = experiment.plan.options
        self._facts = experiment.plan.settings, experiment.dataset_facts
        self._check = DivergenceCheck(experiment.plan.settings)
        self._pipeline = experiment.pipeline
        self._program = experiment.program
        self._train_step = RecheckedStep(self._program, self._options.recheck_every_steps)
        self._total_steps = experiment.total_steps
        self._sharpness = experiment.sharpness
        self._split = "validation" if experiment.has_validation else "test"
        self._state = state
        self._step = int(state.step)
        keep_every = self._options.keep_every_epochs
        if keep_every and self._total_steps:
            checkpoints.keep_every(keep_every * self._program.steps_per_epoch)
        self._on_disk = checkpoints
        self._checkpoints = PacedCheckpoints(checkpoints)
        self._records = records
        self._display = display
        self._account = account
        self._stop = processes.StopRequests()
        self._watchdog = Watchdog(self._options.stall_timeout)

        self._batches = self._pipeline.training(self._step)
        self._reset_metrics = jax.jit(
            optax.tree.zeros_like, out_shardings=replicated(experiment.plan.mesh)
        )
        self._directions = SuccessiveDirections()
        self._timer = Timer(self._options.batch_size, self._pipeline.steps_ahead)
        self._compiled = False

    def run(self) -> None:
        """Trains to the end, and tests the final weights if that has not been done."""
        with self._watchdog, processes.leaving_the_lost():
            if self._step < self._total_steps and not self._out_of_patience():
                self._train()
            if not is_complete(self._records.records, self._options.epochs, self._options.patience):
                self._finish()

    def _train(self) -> None:
        self._display.start(self._total_steps, self._step, self._split)
        first = self._step // self._program.steps_per_epoch
        with self._stop, contextlib.closing(self._batches):
            try:
                with processes.leaving_the_lost():
                    for epoch in range(first, self._options.epochs):
                        self._train_epoch(epoch)
                        self._finish_epoch(epoch)
                        if self._out_of_patience():
                            break
            finally:
                self._watchdog.moved_on("the last save")
                with self._account.doing("saving"):
                    self._checkpoints.wait()

    def _finish(self) -> None:
        """Evaluates the final weights, as far as that has not been done, and records and saves.

        There is something to do after a run with a validation split, after one whose last
        evaluation failed, and in a run of 0 epochs.
        """
        self._account.begin("evaluating")
        if self._split == "validation" and self._total_steps:
            validations = of_split(self._records.records, "validation")
            if not validations or validations[-1]["step"] != self._step:
                self._append_evaluation("validation")
            self._test_best_and_last()
        else:
            self._append_evaluation("test")
        self._checkpoints.wait()

    def _append_evaluation(self, split: str) -> None:
        record = self._record(self._step, split, self._evaluate(split))
        self._append(record | self._account.fields())
        self._save(rank(record))

    def _test_best_and_last(self) -> None:
        """The only look at the test split, where there is a validation split."""
        *earlier, newest = map(rank, of_split(self._records.records, "validation"))
        last = self._record(self._step, "test", self._evaluate("test"))
        best = last
        if earlier and max(earlier) > newest:
            del self._state  # as there may be no room for two
            restored = restore_first_whole(
                self._on_disk, self._on_disk.ranked_steps(), self._program.abstract_state
            )
            self._state = restored.state
            if restored.damaged:
                self._display.warn(restored.warning())
                put_aside = {"put_aside": restored.put_aside}
                self._append(self._record(self._step, "healed", put_aside))
            best = self._record(restored.step, "test", self._evaluate("test"))
        self._append({**best, "checkpoint": "best"}, last | self._account.fields())

    def _append(self, *records: Record) -> None:
        with self._account.doing("saving"), usage_errors():
            self._records.append(*records)

    def _record(self, step: int, split: str, metrics: Mapping[str, Any]) -> Record:
        epoch = step // self._program.steps_per_epoch if step else 0
        seconds = self._account.seconds_of_run()
        return {"step": step, "epoch": epoch, "split": split, **metrics, "seconds": seconds}

    def _out_of_patience(self) -> bool:
        return out_of_patience(self._records.records, self._options.patience)

    def _train_epoch(self, epoch: int) -> None:
        end = (epoch + 1) * self._program.steps_per_epoch
        save_every = self._options.checkpoint_every_steps
        record_every = self._options.record_every_steps
        self._timer.restart()
        while self._step < end:
            if self._step == end - 1 or not self._compiled:
                self._directions.before(self._state)
            self._moved_on(f"step {self._step + 1}")
            self._state = self._train_step(self._step + 1, self._state, self._next_item())
            self._step += 1
            if not self._compiled:
                # The reported speed leaves out compilation.
                jax.block_until_ready(self._state.step)
                if self._step < end:
                    self._directions.after(self._state)
                self._compiled = True
                self._timer.restart()
                self._account.begin("training")
            elif self._timer.due():
                metrics = self._mean_metrics(self._state.metric_sums)
                self._timer.looked()
                total, speed = self._total_steps, self._timer.images_per_second()
                self._display.advance(self._step, total, metrics, speed)
            if record_every and self._step % record_every == 0:
                self._record_window()
            stopping = self._stop.arrived(self._step)
            if self._step < end and (stopping or (save_every and self._step % save_every == 0)):
                self._save(at_once=True)
                self._stop.end_if_told(self._step, self._total_steps)
                self._timer.restart()

    def _record_window(self) -> None:
        """Records the means over the steps since the last call, on disk before any checkpoint."""
        metrics = self._mean_metrics(self._state.window_sums)
        self._state = self._state.replace(window_sums=self._reset_metrics(self._state.window_sums))
        self._append(self._record(self._step, "train_steps", metrics | self._rate()))

    def _rate(self) -> dict[str, float]:
        """The learning rate of the last step, where it is known."""
        if schedule := self._program.schedule:
            return {"lr": float(np.asarray(schedule(self._step - 1)))}
        return {}

    def _finish_epoch(self, epoch: int) -> None:
        """Evaluates, records the epoch and saves."""
        metrics = {**self._mean_metrics(self._state.metric_sums), **skipped_images(self._pipeline)}
        cosine = self._directions.after(self._state)
        if cosine is not None and self._step > 1:
            metrics["successive_cosine"] = cosine
        self._timer.looked()
        self._state = self._state.replace(metric_sums=self._reset_metrics(self._state.metric_sums))
        evaluated = failure = None
        if (epoch + 1) % self._options.eval_every_epochs == 0 or self._is_last(epoch):
            try:
                evaluated = self._record(self._step, self._split, self._evaluate(self._split))
            except DataError as error:
                if processes.several():
                    raise  # the other hosts wait in this evaluation, and cannot save with this one
                failure = error  # raised below, once the epoch is saved
        rate = self._rate()
        speed = self._timer.images_per_second()
        self._timer.reset()
        records = [{**evaluated, **rate}] if evaluated else []
        if self._sharpness and (epoch + 1) % self._options.sharpness_every_epochs == 0:
            with self._account.doing("evaluating"):
                records += self._measured(self._sharpness)
        others = {**rate, "images_per_second": speed, **self._account.fields()}
        train = self._record(self._step, "train", {**metrics, **others})
        self._append(train, *records)
        self._display.epoch(self._options.epochs, train, evaluated)
        for warning in symptoms(of_split(self._records.records, "train"), ended=False):
            self._display.warn(warning)
        keep_every = self._options.keep_every_epochs
        kept = bool(keep_every) and (epoch + 1) % keep_every == 0
        self._save(rank(evaluated) if evaluated else None, at_once=kept)
        if failure:
            raise failure
        if not self._is_last(epoch) and not self._out_of_patience():
            self._stop.end_if_told(self._step, self._total_steps)

    def _measured(self, sharpness: "EpochSharpness") -> list[Record]:
        """The record of the sharpness; none, with a warning, where it cannot be measured."""
        self._check.state(self._step, self._state)
        try:
            return [self._record(self._step, "sharpness", sharpness.measure(self._state))]
        except (ValueError, jax.errors.JaxRuntimeError) as error:  # such as a lack of memory
            reason = str(error).partition("\n")[0]
            self._display.warn(f"the sharpness could not be measured: {reason}")
            return []

    def _is_last(self, epoch: int) -> bool:
        return epoch + 1 == self._options.epochs

    def _mean_metrics(self, metric_sums: dict[str, MetricSum]) -> dict[str, float]:
        """Means over the steps since the sums were zero; waits for the device."""
        mean_metrics = means(metric_sums)
        if "loss" in mean_metrics:
            self._check.value(self._step, "the training loss", mean_metrics["loss"])
        return mean_metrics

    def _next_item(self) -> Any:
        try:
            return next(self._batches)
        except DataError:
            # With several hosts, the others do not know of the error, and saving needs all of them.
            if not processes.several():
                self._save()
            raise

    def _save(self, top1: float | None = None, *, at_once: bool = False) -> None:
        self._moved_on(f"the checkpoint of step {self._step}")
        jax.block_until_ready(self._state)  # that is training
        others = fingerprint(*self._facts, self._records.digest) | {"time": self._account.to_save()}
        with self._account.doing("saving"):
            arrays = self._check.state(self._step, self._state)
            self._checkpoints.save(
                self._step, self._state, arrays, top1, at_once=at_once, others=others
            )

    def _evaluate(self, split: str) -> dict[str, Any]:
        doing = f"a batch of the evaluation on the {split} split"
        with self._account.doing("evaluating"):
            evaluated = evaluate(
                self._program, self._pipeline, self._state, split, lambda: self._moved_on(doing)
            )
        self._check.value(self._step, f"the {split} loss", evaluated["loss"])
        return evaluated

    def _moved_on(self, doing: str) -> None:
        self._watchdog.moved_on(doing)
        self._account.alive()
