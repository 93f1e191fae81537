# SPDX-License-Identifier: Apache-2.0
"""Several processes do what one does: DDP, ZeRO, FSDP2, and checkpoints that change the number of processes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from _distributed_matrices import MESHES, RESUMED, STEPS
from _tolerance import assert_elementwise, assert_exact

PROGRAM = Path(__file__).parents[1] / "_distributed_run.py"


class Processes:
    """So many processes, which take one task after another: to start one takes longer than most tasks."""

    def __init__(self, world: int) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(PROGRAM), str(rank), str(world)],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(world)
        ]

    def outputs(self, line: str) -> list[str]:
        """What each printed for a task; the end of that is the line again, unless the process failed."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(line)
            process.stdin.flush()
        return [_until(line, process) for process in self.processes]

    def close(self) -> list[int]:
        """The statuses."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        statuses = [process.wait(timeout=240) for process in self.processes]
        for process in self.processes:
            assert process.stdout is not None
            process.stdout.close()
        return statuses


def _until(end: str, process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if line == end:
            break
    return printed


class Run:
    """`run("ddp", 2, folder, bits)`: the parameters after that task on two processes."""

    def __init__(self) -> None:
        self.started: dict[int, Processes] = {}

    def __call__(self, task: str, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
        if world not in self.started:
            self.started[world] = Processes(world)
        line = f"{task} {bits} {folder}\n"
        outputs = self.started[world].outputs(line)
        if not all(output.endswith(line) for output in outputs):
            self.started.pop(world).close()  # the next task gets new ones
            pytest.fail("\n".join(outputs))
        found: dict[str, Tensor] = torch.load(folder / f"{task}{world}{bits}.pt", weights_only=True)
        return found


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    runner = Run()
    yield runner
    assert all(status == 0 for processes in runner.started.values() for status in processes.close())


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], bits: int) -> None:
    """Means over processes round differently from one mean; a code near a border may then take its neighbour."""
    start = 0.05  # the four steps move a parameter by about 4e-2
    for name, value in expected.items():
        error = (found[name] - value).abs()
        assert float(error.max()) < (1e-4 if bits == 32 else 4e-3), name
        assert float(error.mean()) < (1e-7 if bits == 32 else 1e-5) + 1e-6 * start, name


@pytest.mark.parametrize("bits", [32, 8])
def test_data_parallel_training_is_that_of_one_process(run: Run, bits: int, tmp_path: Path) -> None:
    expected = run("single", 1, tmp_path, bits)
    assert_close(run("ddp", 2, tmp_path, bits), expected, bits)
    assert_close(run("zero", 2, tmp_path, bits), expected, bits)


@pytest.mark.parametrize("bits", [32, 8, 4, -8])
def test_sharded_training_is_that_of_one_process(run: Run, bits: int, tmp_path: Path) -> None:
    expected = run("single", 1, tmp_path, bits)
    assert_close(run("fsdp2", 2, tmp_path, bits), expected, bits)


def test_a_checkpoint_of_four_processes_loads_on_two(run: Run, tmp_path: Path) -> None:
    expected = run("single", 1, tmp_path, 8)
    run("save", 4, tmp_path, 8)
    assert_close(run("load", 2, tmp_path, 8), expected, 8)


@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("task", ["trust", "uneven"])
def test_trust_ratios_are_those_of_whole_tensors(run: Run, task: str, bits: int, tmp_path: Path) -> None:
    expected = run(task, 1, tmp_path, bits)
    assert_close(run(task, 2, tmp_path, bits), expected, bits)


@pytest.mark.parametrize("bits", [32, 8])
def test_steps_in_the_backward_pass_follow_the_reduction_of_shards(run: Run, bits: int, tmp_path: Path) -> None:
    expected = run("in_backward", 1, tmp_path, bits)
    assert_close(run("in_backward", 2, tmp_path, bits), expected, bits)


def test_steps_in_the_backward_pass_before_a_reduction_are_refused(run: Run, tmp_path: Path) -> None:
    run("refused_in_backward", 2, tmp_path, 8)


def test_a_bad_gradient_in_one_shard_raises_on_every_process(run: Run, tmp_path: Path) -> None:
    run("bad_gradient", 2, tmp_path, 8)


@pytest.mark.parametrize("bits", [32, 8])
def test_flat_parameters_are_saved_by_name_and_go_on(run: Run, bits: int, tmp_path: Path) -> None:
    """Blocks follow the shards of flat parameters, so 8 bits are close to one process and not equal to it."""
    expected = run("fsdp1", 1, tmp_path, bits)
    found = run("fsdp1", 2, tmp_path, bits)
    if bits == 32:
        assert_close(found, expected, bits)
    for name, value in expected.items():
        assert float((found[name] - value).abs().mean()) < 1e-3, name  # of the 4e-2 that four steps move


@pytest.mark.parametrize("bits", [32, 8])
def test_zero_collects_states_and_goes_on_from_them(run: Run, bits: int, tmp_path: Path) -> None:
    run("zero_saved", 2, tmp_path, bits)


def assert_steps_of_whole_matrices(found: dict[str, Tensor], mesh: Any, expected: dict[str, Tensor]) -> None:
    """Muon computes the same numbers on one of the processes, so nothing differs.

    Adafactor's sums are float64 in another order: where one then rounds to another float32, that is one rounding of a
    state; and four a step of p (its own size, the clipping and the means of rows and columns), whose terms are at most
    as large as p here. A code that became its neighbour would show as more than that.
    """
    names = [name.split(" () ", 1) for name in expected if " () " in name]
    assert names
    for rule, name in names:
        value, other = expected[f"{rule} () {name}"], found[f"{rule} {mesh} {name}"]
        if rule == "muon" or not value.is_floating_point():
            assert_exact(other, value)
        else:
            assert_elementwise(other, value.double(), 4 * STEPS, value.abs().max())


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_steps_of_rows_are_those_of_whole_matrices_and_resume_elsewhere(run: Run, bits: int, tmp_path: Path) -> None:
    """Uneven and empty shards, a mesh of replicas, elements that are not finite; and files of 1, 2 and 4 processes."""
    expected = run("whole_matrices", 1, tmp_path, bits)
    for world in (1, 2, 4):
        found = run("whole_matrices", world, tmp_path, bits) if world > 1 else expected
        for mesh in MESHES[world]:
            assert_steps_of_whole_matrices(found, mesh, expected)
    for _, mesh in RESUMED[bits]:
        found = run("resumed", math.prod(mesh), tmp_path, bits)
        assert_steps_of_whole_matrices(found, mesh, expected)


def test_matrices_step_in_the_backward_pass_over_shards(run: Run, tmp_path: Path) -> None:
    expected = run("matrices_in_backward", 1, tmp_path, 32)
    found = run("matrices_in_backward", 2, tmp_path, 32)
    for name, value in expected.items():
        if name.startswith("muon"):
            assert_exact(found[name], value)
        else:
            assert_elementwise(found[name], value.double(), 4 * STEPS, value.abs().max())


def test_matrices_that_are_not_sharded_by_rows_are_refused(run: Run, tmp_path: Path) -> None:
    run("sharded_otherwise", 2, tmp_path, 32)
