# SPDX-License-Identifier: Apache-2.0
"""`bittern bench optim-ablation`: which part of block-wise dynamic quantization keeps 8-bit training stable.

AdamW with float32 arithmetic, whose two states go through codes and back after every step: a linear or a dynamic map,
one absmax per tensor or per block, before a plain or a stable embedding; beside it 32-bit states and this package's
8-bit AdamW, which besides never lets a square above 0 become 0. After table 3 of arXiv:2110.02861.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bittern import optim
from bittern.bench.core.machine import Machine, this_machine
from bittern.bench.core.runner import Trial, run_trials
from bittern.bench.core.timing import torch_threads
from bittern.bench.optim.training import held_out_loss, training_losses
from bittern.data.text import TextData, windows
from bittern.models.language import GPT, GPTShape
from bittern.nn import StableEmbedding
from bittern.ops import codebooks, dequantize_blockwise, quantize_blockwise

BLOCK = 256
LEAST_ELEMENTS = 4096
"""Smaller tensors keep float32 states, as `min_8bit_size` has it."""
SHAPE = GPTShape(layers=2, width=128, heads=4, context=32)
LR, BETAS, EPS, DECAY = 4e-3, (0.9, 0.995), 1e-7, 0.01
Map = Callable[..., Tensor]
"""`codebooks.linear` or `codebooks.dynamic_tree`."""


@dataclass(frozen=True)
class Storage:
    """How the states are kept between two steps."""

    name: str
    table: Map | None
    """None: float32, or the package's own optimizer."""
    blockwise: bool = False
    own: bool = False


STORAGES = (
    Storage("32 bits", None),
    Storage("8 bits, linear, one absmax per tensor", codebooks.linear),
    Storage("8 bits, linear, blocks of 256", codebooks.linear, blockwise=True),
    Storage("8 bits, dynamic, one absmax per tensor", codebooks.dynamic_tree),
    Storage("8 bits, dynamic, blocks of 256", codebooks.dynamic_tree, blockwise=True),
    Storage("bittern.optim.AdamW, 8 bits", None, own=True),
)


@dataclass(frozen=True, slots=True)
class AblationRun:
    """One training."""

    storage: str
    stable_embedding: bool
    seed: int
    loss: float | None
    """Held-out loss in nats per word; None where the training loss became NaN or infinite."""


@dataclass(frozen=True, slots=True)
class AblationReport:
    """All runs."""

    command: str
    machine: Machine
    steps: int
    runs: tuple[AblationRun, ...]

    def page(self) -> str:
        """The table with what it was measured by."""
        return (
            "# What keeps 8-bit optimizer states stable\n\n"
            f"A GPT of two layers on the words of WikiText-2's validation file (4,000 words), AdamW at a learning rate "
            f"of {LR}, {self.steps} steps. Its states go through the codes after every step; the last row is this "
            'package\'s optimizer. Held-out loss in nats per word, one figure per seed; "diverged": not finite.\n\n'
            f"{self.markdown()}\n"
            "Linear codes give small second moments the code of 0, and their steps explode. Reference: "
            "arXiv:2110.02861, table 3, which used far larger models.\n\n"
            f"Command: `{self.command}`\n\nMachine: {self.machine}\n"
        )

    def markdown(self) -> str:
        """One line per storage, a pair of columns per embedding."""
        lines = ["| states | embedding | stable embedding |", "|---|---|---|"]
        for name in dict.fromkeys(run.storage for run in self.runs):
            cells = []
            for stable in (False, True):
                found = [run.loss for run in self.runs if run.storage == name and run.stable_embedding is stable]
                cells.append(", ".join("diverged" if loss is None else f"{loss:.3f}" for loss in found))
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def through_codes(x: Tensor, table: Tensor, blockwise: bool) -> Tensor:
    """x after the nearest codes of its blocks, or of the whole tensor with one absmax."""
    if blockwise:
        codes, absmax = quantize_blockwise(x, table, BLOCK)
        return dequantize_blockwise(codes, absmax, table, BLOCK)
    absmax = x.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return table[torch.bucketize(x / absmax, codebooks.boundaries(table), right=True)] * absmax


class RoundedAdamW(torch.optim.AdamW):
    """torch.optim.AdamW whose states of large tensors go through codes after every step."""

    def __init__(self, params: Iterable[Tensor], table: Map, blockwise: bool) -> None:
        super().__init__(params, lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
        self._tables = {"exp_avg": table(True), "exp_avg_sq": table(False)}
        self._blockwise = blockwise
        self.register_step_post_hook(lambda *_: self._round())

    @torch.no_grad()
    def _round(self) -> None:
        for p, state in self.state.items():
            if p.numel() >= LEAST_ELEMENTS and getattr(p, "optimizer_state_bits", 8) == 8:
                for name, table in self._tables.items():
                    state[name].copy_(through_codes(state[name], table, self._blockwise))


def optimizer_for(storage: Storage, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of one line of the table."""
    if storage.own:
        return optim.AdamW(model.parameters(), lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY, state_bits=8)
    if storage.table is None:
        return torch.optim.AdamW(model.parameters(), lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    return RoundedAdamW(model.parameters(), storage.table, storage.blockwise)


def train(
    text: TextData, storage: Storage, stable_embedding: bool, seed: int, steps: int, batch: int = 16
) -> AblationRun:
    """One training; it ends early where the loss is no longer finite."""
    torch.manual_seed(seed)
    words = len(text.vocabulary)
    model = GPT(words, SHAPE, StableEmbedding(words, SHAPE.width) if stable_embedding else None)
    optimizer = optimizer_for(storage, model)
    draw = torch.Generator().manual_seed(seed)
    for loss in training_losses(model, optimizer, lambda: windows(text.train, SHAPE.context, batch, draw), steps):
        if not math.isfinite(loss):
            return AblationRun(storage.name, stable_embedding, seed, None)
    model.eval()
    with torch.no_grad():
        value = held_out_loss(model, text.held_out, SHAPE.context)
    return AblationRun(storage.name, stable_embedding, seed, value if math.isfinite(value) else None)


def _all(seeds: Sequence[int]) -> Iterator[tuple[Storage, bool, int]]:
    for seed in seeds:
        for storage in STORAGES:
            for stable in (False, True):
                yield storage, stable, seed


def run(
    text: TextData,
    *,
    command: str,
    out: Path,
    steps: int = 300,
    seeds: Sequence[int] = (0, 1, 2),
    threads: int = 1,
    on_run: Callable[[AblationRun], None] | None = None,
) -> AblationReport:
    """Train every line of the table; `out` (JSON) and its page are written after each run, and a later call goes on.

    Raises: OSError; what `run_trials` raises for an `out` that cannot be continued.
    """
    with torch_threads(threads):
        fresh = AblationReport(command, this_machine(), steps, ())
        trials = [
            Trial((storage.name, stable, seed), partial(train, text, storage, stable, seed, steps))
            for storage, stable, seed in _all(seeds)
        ]
        return run_trials("bench optim-ablation", out, fresh, trials, _key, on_run=on_run)


def _key(run: AblationRun) -> tuple[str, bool, int]:
    return run.storage, run.stable_embedding, run.seed
