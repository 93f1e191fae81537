# SPDX-License-Identifier: Apache-2.0
"""One quick run of the demo: every method trained, packed, verified and timed."""

from __future__ import annotations

import pytest
import torch

from bittern import binary, deploy
from bittern.bench.core.store import from_json, to_json
from bittern.bench.demo import run as demo
from bittern.bench.demo.result import FLOAT, DemoResult, Row, Settings
from bittern.train import Epoch


class Recorder:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.steps: dict[str, list[int]] = {}
        self.epochs: list[str] = []
        self.stages: list[tuple[str, str]] = []
        self.optimizers_seen = False

    def training(self, name: str, step: int, steps: int) -> None:
        assert step <= steps
        self.steps.setdefault(name, []).append(step)

    def epoch(self, name: str, row: Epoch) -> None:
        self.epochs.append(name)

    def packing(self, name: str) -> None:
        self.stages.append((name, "packing"))

    def packed(self, name: str, model: deploy.Packed) -> None:
        self.stages.append((name, "packed"))

    def timing(self, name: str) -> None:
        self.stages.append((name, "timing"))

    def optimizers(self) -> None:
        self.optimizers_seen = True

    def done(self, row: Row) -> None:
        self.stages.append((row.name, "done"))


@pytest.fixture(scope="module")
def run() -> tuple[DemoResult, Recorder]:
    recorder = Recorder()
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    result = demo.run(Settings(quick=True), recorder, command="bittern demo --quick")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    return result, recorder


def test_optimizers_are_compared_in_three_storages(run: tuple[DemoResult, Recorder]) -> None:
    result, recorder = run
    assert recorder.optimizers_seen
    assert [row.bits for row in result.optimizers] == [32, 8, 4]
    assert [round(row.bytes_per_param, 1) for row in result.optimizers] == [8.0, 2.0, 1.1]
    assert len({row.losses[0] for row in result.optimizers}) == 1


def test_nine_methods_are_exact(run: tuple[DemoResult, Recorder]) -> None:
    result, _ = run
    assert [row.name for row in result.rows] == [FLOAT, *(method.__name__ for method in binary.COMPARED)]
    assert len(result.methods) == 9
    assert result.exact
    noise = 8  # images that verify adds to those that it is given
    for row in result.methods:
        assert row.accumulators == (128 + noise) * (64 * 64 + 128 * 16 + 128 * 16)
        assert row.different == 0


def test_packed_files_are_smaller_by_what_one_bit_saves(run: tuple[DemoResult, Recorder]) -> None:
    result, _ = run
    weights = 9 * (64 * 64 + 64 * 128 + 128 * 128)
    assert result.baseline.binary_bytes == 4 * weights
    for row in result.methods:
        assert row.binary_bytes == weights // 8
        # the binary layers are most of the file, so that the file as a whole is small too
        assert row.stored_bytes < 1.6 * row.binary_bytes
        saved = result.baseline.stored_bytes - row.stored_bytes
        # what else differs: scales and thresholds of a few hundred channels, and the program
        assert abs(saved - (4 - 1 / 8) * weights) < 8192


def test_rows_hold_curves_and_times(run: tuple[DemoResult, Recorder]) -> None:
    result, _ = run
    for row in result.rows:
        assert len(row.losses) == 2
        assert len(row.accuracies) == 1
        assert 0.0 <= row.accuracy <= 1.0
    assert result.baseline.latencies == ()
    for row in result.methods:
        assert [latency.batch for latency in row.latencies] == list(demo.BATCHES)
        for latency in row.latencies:
            assert 0 < latency.packed_us.min <= latency.packed_half_us.low <= latency.packed_us.median
            assert latency.packed_us.median <= latency.packed_half_us.high <= latency.packed_us.max
            assert len(latency.repeated) == demo.REPETITIONS
            assert latency.noise >= 0.0
    assert {latency.layout for row in result.methods for latency in row.latencies} <= {"contiguous", "channels-last"}


def test_watcher_sees_every_step(run: tuple[DemoResult, Recorder]) -> None:
    result, recorder = run
    names = [row.name for row in result.rows]
    assert tuple(names) == demo.NAMES
    assert all(recorder.steps[name] == [0, 1, 2] for name in names)
    assert recorder.epochs == names
    assert recorder.stages == [(name, stage) for name in names for stage in ("packing", "packed", "timing", "done")]


def test_result_survives_json(run: tuple[DemoResult, Recorder]) -> None:
    result, _ = run
    assert from_json(DemoResult, to_json(result)) == result


def test_seed_changes_the_weights() -> None:
    first, again, other = (_weights(seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def _weights(seed: int) -> torch.Tensor:
    data = demo._data(Settings(quick=True))
    with torch.random.fork_rng([]):
        model, _ = demo._one(binary.BNN, data, Settings(quick=True, seed=seed), (), Recorder())
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("method", [None, binary.ReActNet])
def test_network_gives_ten_logits_and_packs(method: type[binary.ReActNet] | None) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 1, 8, 8)
    network = demo.DemoNet(method, width=16).eval()
    with torch.no_grad():
        assert network(x).shape == (3, 10)
    assert deploy.verify(deploy.pack(network, x), network, x).exact


@pytest.mark.parametrize("field", ["epochs", "batch_size", "threads"])
def test_settings_refuse_what_cannot_be(field: str) -> None:
    with pytest.raises(ValueError, match=f"demo: {field} must be at least 1; got 0"):
        Settings(**{field: 0})
