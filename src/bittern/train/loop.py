# SPDX-License-Identifier: Apache-2.0
"""The training loop: resumable at every step, bit for bit on a CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bittern.nn.parameters import clip_latent_weights, parameter_groups
from bittern.quantizer import set_progress
from bittern.train.checkpoint import RunState, check_finite, restore_checkpoint, save_checkpoint
from bittern.train.evaluate import evaluate
from bittern.train.history import Epoch, History
from bittern.train.interrupt import InterruptGuard, StopRequested
from bittern.train.logs import Logs, write_csv
from bittern.train.modes import in_eval, to_eval, to_train
from bittern.train.precision import COMPUTED, LEAST_SCALE, Mixed, check_precision, loss_scaler
from bittern.train.recipe import Recipe
from bittern.train.setup import (
    build_optimizer,
    check_arguments,
    draws_samples,
    held_still,
    open_folder,
    own_randomness,
    run_identity,
    schedules_of,
    task_of,
    write_recipe,
)
from bittern.train.source import TrainingData, on_device, open_source
from bittern.train.tasks.task import Task
from bittern.train.watch import WeightWatch

OnStep = Callable[[int, float], None]
"""(steps done, loss of the last step)."""
OnEpoch = Callable[[Epoch], None]


class DivergedError(ArithmeticError):
    """The loss or a weight became NaN or infinite. `what` says which, without advice."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"train: {what}; {advice}")
        self.what = what


def train(
    model: nn.Module,
    data: TrainingData,
    recipe: Recipe,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    teacher: nn.Module | None = None,
    task: Task | None = None,
    checkpoint_steps: int | None = None,
    progress: bool = True,
    watch_weights: bool = False,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> History:
    """Train `model` in place on the device that holds it, test it after every epoch, and leave it in eval mode.

    data: images of bittern.data, which are augmented and normalized here, or (train, test), each a torch Dataset with a
    length or a DataLoader, of (input, class number), or of what `task` takes. Their inputs, of any shape and dtype, go
    to the model as they are.
    From a Dataset every epoch takes a fresh permutation, without the last incomplete batch. A DataLoader keeps its own
    order and batches, and is read to its end.
    folder: gets checkpoint.safetensors (at the start, after every epoch and every `checkpoint_steps` steps), log.csv,
    TensorBoard event files and recipe.json; None writes nothing. resume: continue from the checkpoint in `folder`;
    killed at any moment and resumed with the same arguments, a run on a CPU ends with the same weights, bit for bit.
    That holds for a Dataset whose random draws come from torch's default generator, in this process. A run over a
    DataLoader is saved at the ends of epochs only, and goes on bit for bit where the loader's order and draws come from
    that generator too.
    A recipe with more epochs extends the run: from there on its schedule spans all epochs, so the rate may jump, and
    the weights are not those of a run that was planned so long.
    teacher: gives logits to learn from, as `recipe.distillation` says, and what `recipe.losses` compare; it is not
    changed. task: what is learned; None:
    the classification by `recipe.loss`.
    watch_weights: log which low-bit weights flip and which are dead (`bittern.train.watch`): columns of log.csv,
    TensorBoard's numbers, and `Epoch.watched`. It changes nothing else, and a resumed run may begin or end with it.
    progress: show a bar on stderr. Random draws come from `recipe.seed`; the caller's generators are left alone.
    An optimizer that has `eval()` and `train()` (schedule-free ones) is told so around evaluations and checkpoints,
    which hold the weights to judge, and at the end.
    Ctrl-C: finishes the step, writes a checkpoint (with a DataLoader, at the end of an epoch only) and raises
    KeyboardInterrupt; a second one stops at once.

    Raises: ValueError, TypeError for arguments that do not fit; FileExistsError for a folder that holds a checkpoint
    when not resuming; FileNotFoundError when there is none to resume; CheckpointError for one of another run;
    InUseError while another process trains in the folder;
    OSError when a file cannot be written (the previous checkpoint is kept); DivergedError.
    """
    device = check_arguments(model, data, recipe, teacher, checkpoint_steps, resume, folder)
    data = on_device(data, device)
    # without a mode of the caller's, which no checkpoint would remember
    plain = torch.autocast(device.type, enabled=False)
    own = own_randomness(recipe.seed, device)
    with open_folder(folder, resume) as path, plain, own, InterruptGuard() as guard, held_still(teacher):
        watch = WeightWatch(model) if watch_weights else None
        run = _Run(model, data, recipe, device, teacher, task, path, checkpoint_steps, guard, watch)
        if resume:
            run.restore()
        else:
            run.save()
        if path is not None:
            write_recipe(path.parent, recipe)
        with Logs(None if path is None else path.parent, run.state.step, run.total, progress) as logs:
            return run.go(logs, on_step, on_epoch)


class _Sample(NamedTuple):
    """One evaluation of a batch: an optimizer that draws samples takes several a step."""

    score: float
    parts: dict[str, float]
    """Of the loss, by name."""


class _Run:
    """One run between its first and its last step. All that changes is in the model, the optimizer and `state`."""

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        recipe: Recipe,
        device: torch.device,
        teacher: nn.Module | None,
        task: Task | None,
        path: Path | None,
        checkpoint_steps: int | None,
        guard: InterruptGuard,
        watch: WeightWatch | None,
    ) -> None:
        self.model = model
        self.data = data
        self.recipe = recipe
        self.device = device
        self.task = task_of(recipe, data, teacher, task)
        self.path = path
        self.checkpoint_steps = checkpoint_steps
        self.guard = guard
        self.watch = watch
        self.source = open_source(data, recipe, device, self.task)
        groups = parameter_groups(
            model,
            recipe.weight_decay,
            latent_weight_decay=recipe.latent_weight_decay,
            elementwise_weight_decay=recipe.elementwise_weight_decay,
            glorot_lr=recipe.learning_rate if recipe.glorot_rates else None,
        )
        self.optimizer = build_optimizer(recipe, model, groups)
        self.full_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.schedules = schedules_of(self.optimizer, recipe)
        dtype = COMPUTED.get(recipe.precision)
        self.forward = model if dtype is None else Mixed(model, device, dtype)
        self.scaler = loss_scaler(recipe, device)
        self.state = RunState(loss_scale=self.scaler.state_dict())
        self.identity = run_identity(recipe, self.source, teacher, task)
        check_precision(model, recipe)
        if self.scaler.is_enabled() and draws_samples(self.optimizer):
            owner = type(self.optimizer).__name__
            raise ValueError(
                f'train: precision "16-mixed" skips steps whose gradients overflow, and {owner} evaluates the model '
                'within a step; use "bf16-mixed"'
            )

    @property
    def total(self) -> int:
        return self.recipe.epochs * self.source.steps_per_epoch

    @property
    def at_epoch_end(self) -> bool:
        """All steps of an epoch are done and its row is not."""
        state = self.state
        return state.step == (len(state.rows) + 1) * self.source.steps_per_epoch

    @property
    def can_go_on_from_here(self) -> bool:
        return self.source.any_step or self.state.step % self.source.steps_per_epoch == 0

    def go(self, logs: Logs, on_step: OnStep | None, on_epoch: OnEpoch | None) -> History:
        state = self.state
        self.forward.train()
        to_train(self.optimizer)
        try:
            while True:
                if self.at_epoch_end:
                    self._finish_epoch(logs)
                    if on_epoch is not None:
                        on_epoch(state.rows[-1])
                if state.step == self.total:
                    break
                loss = self._step()
                watched = {} if self.watch is None else self.watch.last
                logs.step(state.step, loss, self._learning_rate(state.step - 1), watched)
                if self.checkpoint_steps is not None and state.step % self.checkpoint_steps == 0:
                    self.save()
                if on_step is not None:
                    on_step(state.step, loss)
                self.guard.check()
        except StopRequested:
            if self.can_go_on_from_here:
                self.save()
            raise KeyboardInterrupt(self._stopped()) from None
        self.forward.eval()
        to_eval(self.optimizer)
        return History(tuple(state.rows))

    def save(self) -> None:
        """Write a checkpoint of the weights to judge, unless they would spoil the previous one."""
        with in_eval(self.optimizer):
            broken = check_finite(self.model)
            if broken is not None:
                raise DivergedError(f"{broken} holds NaN or infinity after step {self.state.step}", self._what_to_try())
            if self.path is not None:
                save_checkpoint(
                    self.path, self.model, self.optimizer, self.state, self.identity, self.device, self.watch
                )

    def restore(self) -> None:
        assert self.path is not None  # resume without a folder was refused
        self.state = restore_checkpoint(
            self.path, self.model, self.optimizer, self.identity, self.device, self.task.metric, self.watch
        )
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(self.state.loss_scale)
        write_csv(self.path.parent, self.state.rows, self.task.metric)

    def _step(self) -> float:
        """One optimizer step. Returns its loss."""
        started = time.perf_counter()
        recipe, state = self.recipe, self.state
        set_progress(self.model, state.step / (self.total - 1) if self.total > 1 else 1.0)
        for group, rate, schedule in zip(self.optimizer.param_groups, self.full_rates, self.schedules, strict=True):
            group["lr"] = rate * schedule(state.step, self.total)
        batch = self.source.at(state.step)
        size, parts = len(batch[0]), recipe.accumulation_steps
        if size % parts:
            raise ValueError(
                f"train: accumulation_steps must divide every batch; got {parts} and a batch of {size}; "
                "let the loader drop its last one (drop_last=True)"
            )
        if self.watch is not None:
            self.watch.begin()
        found: list[_Sample] = []
        moved = True
        if draws_samples(self.optimizer):
            loss = float(self.optimizer.step(lambda: self._gradients(batch, parts, found)))
        else:
            loss = self._gradients(batch, parts, found)
            moved = self._update()
        if recipe.clip_latent and moved:
            clip_latent_weights(self.model)
        if self.watch is not None:
            self.watch.end()
        state.step += 1
        state.loss_sum += loss
        for sample in found:
            state.score_sum += sample.score / len(found)
            for name, value in sample.parts.items():
                state.parts[name] = state.parts.get(name, 0.0) + value / len(found)
        state.seen += size
        state.seconds += time.perf_counter() - started
        return loss

    def _update(self) -> bool:
        """Step by the gradients, unless they overflowed: then nothing moves, and the loss is scaled by less.

        The schedule of the rate goes on, for it is one over the batches, which end all the same.
        """
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        scale = self.scaler.get_scale()
        self.state.loss_scale = self.scaler.state_dict()
        moved = scale >= before
        self.state.skipped += not moved
        if scale < LEAST_SCALE:
            raise DivergedError(
                f"the gradients are not finite at step {self.state.step + 1}, however small the loss is scaled",
                self._what_to_try(),
            )
        return moved

    def _gradients(self, batch: tuple[Tensor, ...], parts: int, found: list[_Sample]) -> float:
        """Gradients of a batch, run in equal parts; returns its loss, and adds the rest to `found`."""
        self.optimizer.zero_grad()
        loss, score = 0.0, 0.0
        named: dict[str, float] = {}
        for part in zip(*(tensor.chunk(parts) for tensor in batch), strict=True):
            measured = self.task.measure(self.forward, part)
            # every part has the same size, so the mean of their means is the mean over the batch
            part_loss = measured.loss / parts
            loss += float(part_loss.detach())
            if not math.isfinite(loss):
                raise DivergedError(f"the loss is {loss} at step {self.state.step + 1}", self._what_to_try())
            self.scaler.scale(part_loss).backward()  # type: ignore[no-untyped-call]
            score += float(measured.score.detach())
            for name, value in measured.parts:
                named[name] = named.get(name, 0.0) + float(value.detach()) / parts
        self.scaler.unscale_(self.optimizer)
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        found.append(_Sample(score, named))
        if self.watch is not None:
            self.watch.gradients()
        return loss

    def _finish_epoch(self, logs: Logs) -> None:
        started = time.perf_counter()
        state = self.state
        with in_eval(self.optimizer):
            tested = evaluate(self.model, self.data, task=self.task, on_batch=self.guard.check)
        if not math.isfinite(tested.loss):
            raise DivergedError(f"the test loss is {tested.loss} after step {state.step}", self._what_to_try())
        row = Epoch(
            epoch=len(state.rows) + 1,
            step=state.step,
            learning_rate=self._learning_rate(state.step - 1),
            train_loss=state.loss_sum / self.source.steps_per_epoch,
            train_score=state.score_sum / state.seen,
            test_loss=tested.loss,
            test_score=tested.score,
            seconds=state.seconds + time.perf_counter() - started,
            metric=self.task.metric,
            watched=() if self.watch is None else self.watch.epoch(),
            losses=tuple((name, value / self.source.steps_per_epoch) for name, value in state.parts.items()),
            skipped=state.skipped if self.scaler.is_enabled() else None,
        )
        state.rows.append(row)
        state.loss_sum, state.score_sum, state.seen, state.seconds, state.parts = 0.0, 0.0, 0, 0.0, {}
        state.skipped = 0
        logs.epoch(state.rows)
        self.save()

    def _learning_rate(self, step: int) -> float:
        return self.recipe.learning_rate * self.recipe.schedule(step, self.total)

    def _what_to_try(self) -> str:
        kept = "" if self.path is None else f"; the last checkpoint is kept in {self.path}"
        wider = 'precision "bf16-mixed", ' if self.scaler.is_enabled() else ""
        return f"try {wider}a lower learning_rate, a longer warm-up, or look for NaN in the data and the weights{kept}"

    def _stopped(self) -> str:
        where = f"stopped after step {self.state.step} of {self.total}"
        if self.path is None:
            return f"train: {where}; nothing was saved, because no folder was given"
        if not self.can_go_on_from_here:
            return (
                f"train: {where}; {self.path} has the end of epoch {len(self.state.rows)}, because a loader can only "
                "begin at its beginning; continue from there with resume=True and the same arguments"
            )
        return f"train: {where}; saved in {self.path}; continue with resume=True and the same arguments"
