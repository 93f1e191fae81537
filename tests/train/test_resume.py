# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed, interrupted or out of disk, and what remains of them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern import optim
from bittern._files import InUseError
from bittern.data import ImageData
from bittern.train import CheckpointError, Recipe, train
from bittern.train.checkpoint import FILE_NAME

SCRIPT = Path(__file__).parent / "_digits_run.py"
STEPS = 44
"""Of the whole run: 2 epochs of 22."""


class Crash(Exception):
    pass


@pytest.fixture(scope="module")
def straight(script: ModuleType, data: ImageData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights of the run that nobody interrupts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    state = script.run(tmp_path_factory.mktemp("straight"), data, False, "-", -1).state_dict()
    torch.set_num_threads(threads)
    return dict(state)


def assert_same(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        assert torch.equal(got[name], value), name


def start(folder: Path, action: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(SCRIPT), str(folder), action], text=True, **options)


def test_kill_9_and_resume_gives_the_same_weights(
    script: ModuleType, data: ImageData, straight: dict[str, Tensor], tmp_path: Path
) -> None:
    assert start(tmp_path, "kill 23").wait() == -signal.SIGKILL
    assert_same(script.run(tmp_path, data, True, "-", -1).state_dict(), straight)


@pytest.mark.parametrize("crash", [1, 6, 7, 8, 21, 22, 23, 43, 44])
def test_a_crash_after_any_step_and_resume_gives_the_same_weights(
    script: ModuleType, data: ImageData, straight: dict[str, Tensor], tmp_path: Path, crash: int
) -> None:
    def on_step(step: int, loss: float) -> None:
        if step == crash:
            raise Crash

    options = {"folder": tmp_path, "checkpoint_steps": script.CHECKPOINT_STEPS, "progress": False}
    with pytest.raises(Crash):
        train(script.build(), data, script.recipe(), on_step=on_step, **options)
    model = script.build()
    steps: list[int] = []
    history = train(model, data, script.recipe(), resume=True, on_step=lambda step, _: steps.append(step), **options)
    assert_same(model.state_dict(), straight)
    # from the last checkpoint, at a multiple of 7 or the end of an epoch, without a gap
    begun = max(s for s in range(crash + 1) if s % 7 == 0 or (s % 22 == 0 and s < crash))
    assert steps == list(range(begun + 1, STEPS + 1))
    assert [row.epoch for row in history.epochs] == [1, 2]


def test_a_resumed_history_equals_the_uninterrupted_one(few: ImageData, mlp: type[nn.Module], tmp_path: Path) -> None:
    def on_step(step: int, loss: float) -> None:
        if step == 8:
            raise Crash

    recipe = Recipe(epochs=4, batch_size=32)
    wanted = train(mlp(), few, recipe, progress=False)
    with pytest.raises(Crash):
        train(mlp(), few, recipe, folder=tmp_path, checkpoint_steps=2, progress=False, on_step=on_step)
    got = train(mlp(seed=1), few, recipe, folder=tmp_path, resume=True, progress=False)
    assert [row._replace(seconds=0) for row in got.epochs] == [row._replace(seconds=0) for row in wanted.epochs]


LOW_BIT = [
    partial(optim.SGD, momentum=0.9, min_8bit_size=0),
    partial(optim.AdamW, min_8bit_size=0),
    partial(optim.AdamW, state_bits=4, min_8bit_size=0),
    partial(optim.Adan, min_8bit_size=256),
    partial(optim.AdamWScheduleFree, min_8bit_size=0),
    partial(optim.SGDScheduleFree),
]


@pytest.mark.parametrize(
    "optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.NAdam, torch.optim.RMSprop, *LOW_BIT]
)
def test_the_state_of_any_optimizer_is_resumed(
    few: ImageData, mlp: type[nn.Module], tmp_path: Path, optimizer: Any
) -> None:
    def on_step(step: int, loss: float) -> None:
        if step == 4:
            raise Crash

    options = {"momentum": 0.9} if optimizer in (torch.optim.SGD, torch.optim.RMSprop) else {}

    def factory(groups: Any, lr: float) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = optimizer(groups, lr=lr, **options)
        return made

    recipe = Recipe(epochs=2, batch_size=32, optimizer=factory, weight_decay=1e-3)
    wanted, model = mlp(), mlp()
    train(wanted, few, recipe, progress=False)
    with pytest.raises(Crash):
        train(mlp(), few, recipe, folder=tmp_path, checkpoint_steps=1, progress=False, on_step=on_step)
    train(model, few, recipe, folder=tmp_path, resume=True, progress=False)
    assert_same(model.state_dict(), dict(wanted.state_dict()))


def test_a_finished_run_resumes_to_its_end(few: ImageData, mlp: type[nn.Module], tmp_path: Path) -> None:
    first, second = mlp(), mlp(seed=1)
    recipe = Recipe(epochs=1, batch_size=32)
    wanted = train(first, few, recipe, folder=tmp_path, progress=False)
    assert train(second, few, recipe, folder=tmp_path, resume=True, progress=False) == wanted
    assert_same(second.state_dict(), dict(first.state_dict()))


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_resume(
    script: ModuleType, data: ImageData, straight: dict[str, Tensor], tmp_path: Path
) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    run = start(tmp_path, "wait 10", **pipes)
    assert run.stdout is not None
    assert run.stdout.readline() == "waiting\n"
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate("\n", timeout=120)
    # Python ends itself by SIGINT after a KeyboardInterrupt that nobody caught; after an import of torch._dynamo, by 1
    assert run.returncode in (-signal.SIGINT, 1)
    assert "KeyboardInterrupt: train: stopped after step 10 of 44; saved in" in errors
    assert "resume=True" in errors
    assert_same(script.run(tmp_path, data, True, "-", -1).state_dict(), straight)


def test_ctrl_c_in_this_process(few: ImageData, mlp: type[nn.Module], tmp_path: Path) -> None:
    def on_step(step: int, loss: float) -> None:
        steps.append(step)
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    steps: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    recipe = Recipe(epochs=2, batch_size=32)
    with pytest.raises(KeyboardInterrupt, match="after step 2 of 6; saved in"):
        train(mlp(), few, recipe, folder=tmp_path, progress=False, on_step=on_step)
    assert signal.getsignal(signal.SIGINT) is handler
    train(mlp(), few, recipe, folder=tmp_path, resume=True, progress=False, on_step=on_step)
    assert steps == [1, 2, 3, 4, 5, 6]
    with pytest.raises(KeyboardInterrupt, match="nothing was saved"):
        train(mlp(), few, recipe, progress=False, on_step=on_step)


def test_ctrl_c_during_the_test_of_an_epoch(few: ImageData, mlp: type[nn.Module], tmp_path: Path) -> None:
    class Interrupted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp()
            self.armed = True

        def forward(self, x: Tensor) -> Tensor:
            if not self.training and self.armed:
                os.kill(os.getpid(), signal.SIGINT)
            result: Tensor = self.inner(x)
            return result

    model, recipe = Interrupted(), Recipe(epochs=2, batch_size=32)
    with pytest.raises(KeyboardInterrupt, match="after step 3 of 6"):
        train(model, few, recipe, folder=tmp_path, progress=False)
    model.armed = False
    steps: list[int] = []
    history = train(
        model, few, recipe, folder=tmp_path, resume=True, progress=False, on_step=lambda step, _: steps.append(step)
    )
    assert steps == [4, 5, 6]
    assert [row.step for row in history.epochs] == [3, 6]


def test_a_second_ctrl_c_stops_at_once(few: ImageData, mlp: type[nn.Module], tmp_path: Path) -> None:
    def on_step(step: int, loss: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second signal must interrupt here")

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        train(mlp(), few, Recipe(epochs=1, batch_size=32), folder=tmp_path, progress=False, on_step=on_step)


def test_a_full_disk_keeps_the_previous_checkpoint(
    few: ImageData, mlp: type[nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def on_step(step: int, loss: float) -> None:
        if step == 1:
            kept.append((tmp_path / FILE_NAME).read_bytes())
            patch.setattr(os, "fsync", no_space)

    kept: list[bytes] = []
    recipe = Recipe(epochs=2, batch_size=32)
    options = {"folder": tmp_path, "checkpoint_steps": 2, "progress": False}
    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"cannot write .*No space left") as caught:
        train(mlp(), few, recipe, on_step=on_step, **options)
    assert caught.value.errno == errno.ENOSPC
    assert [(tmp_path / FILE_NAME).read_bytes()] == kept
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))
    wanted, resumed = mlp(), mlp()
    train(wanted, few, recipe, progress=False)
    train(resumed, few, recipe, resume=True, **options)
    assert_same(resumed.state_dict(), dict(wanted.state_dict()))


def test_what_a_kill_during_a_write_left_is_swept_away(few: ImageData, mlp: type[nn.Module], tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch_size=32)
    train(mlp(), few, recipe, folder=tmp_path, progress=False)
    leftover = tmp_path / f".{FILE_NAME}.abc123_4.tmp"
    leftover.write_bytes(b"half")
    train(mlp(), few, recipe, folder=tmp_path, resume=True, progress=False)
    assert not leftover.exists()


def test_a_run_is_neither_overwritten_nor_resumed_from_nothing(
    few: ImageData, mlp: type[nn.Module], tmp_path: Path
) -> None:
    recipe = Recipe(epochs=1, batch_size=32)
    with pytest.raises(FileNotFoundError, match="resume=False"):
        train(mlp(), few, recipe, folder=tmp_path, resume=True, progress=False)
    train(mlp(), few, recipe, folder=tmp_path, progress=False)
    with pytest.raises(FileExistsError, match="resume=True"):
        train(mlp(), few, recipe, folder=tmp_path, progress=False)


def test_resume_refuses_another_model_recipe_data_or_optimizer(
    few: ImageData, data: ImageData, mlp: type[nn.Module], tmp_path: Path
) -> None:
    def resume(model: nn.Module, data: ImageData, **changes: Any) -> None:
        recipe = Recipe(**({"epochs": 1, "batch_size": 32} | changes))
        train(model, data, recipe, folder=tmp_path, resume=True, progress=False)

    train(mlp(), few, Recipe(epochs=1, batch_size=32), folder=tmp_path, progress=False)
    with pytest.raises(CheckpointError, match=r"another model: .*float32 \[128, 64\] in the checkpoint.*\[64, 64\]"):
        resume(mlp(width=64), few)
    with pytest.raises(CheckpointError, match=r"another run: epochs was 1, is 2; seed was 0, is 5"):
        resume(mlp(), few, epochs=2, seed=5)
    with pytest.raises(CheckpointError, match=r"another run: data was"):
        resume(mlp(), data)
    with pytest.raises(CheckpointError, match=r"optimizer was 'torch.optim.adamw.AdamW'"):
        resume(mlp(), few, optimizer=torch.optim.SGD)
    frozen = mlp()
    frozen.get_parameter("1.bias").requires_grad_(False)
    with pytest.raises(CheckpointError, match="other parameter groups"):
        resume(frozen, few)


def test_two_processes_never_train_in_one_folder(
    script: ModuleType, data: ImageData, straight: dict[str, Tensor], tmp_path: Path
) -> None:
    first = start(tmp_path, "wait 10", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stdout.readline() == "waiting\n"
    for resume in (False, True):
        with pytest.raises((InUseError, FileExistsError), match=r"another process trains in|exists; continue it"):
            script.run(tmp_path, data, resume, "-", -1)
    first.kill()
    first.communicate()
    # a process that was killed holds nothing
    assert_same(script.run(tmp_path, data, True, "-", -1).state_dict(), straight)
    assert not (tmp_path / "training.lock").exists()
