# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from _command import Command, Trained
from bittern.cli import main


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture(autouse=True)
def _own_threads_and_randomness() -> Iterator[None]:
    """--threads and --seed set what belongs to the process."""
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.random.set_rng_state(state)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run folder of a small network, and its packed file."""
    place = tmp_path_factory.mktemp("trained")
    folder, packed = place / "run", place / "packed.safetensors"
    words = ["train", "--folder", folder, "--model", "mlp", "--method", "xnornetplusplus", "--epochs", 2]
    assert main([str(w) for w in [*words, "--threads", 1]]) == 0
    assert main(["pack", str(folder), "-o", str(packed)]) == 0
    return Trained(folder, packed)
