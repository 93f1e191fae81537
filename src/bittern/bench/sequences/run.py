# SPDX-License-Identifier: Apache-2.0
"""`bittern bench sequences`: perplexity of a recurrent language model whose weights and inputs have few bits.

The rows are those of the paper on alternating quantization (1802.00150): weights of 2, 3 and 4 bits without training,
found greedily, by refined greedy and by alternating steps; then weights and inputs of 2/2, 2/3 and 3/3 bits, trained.
All rows of a seed begin with one float network, which a call that goes on trains anew.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from bittern.bench.core.machine import this_machine
from bittern.bench.core.runner import Trial, run_trials
from bittern.bench.core.timing import torch_threads
from bittern.bench.sequences.report import FLOAT, REAL, SequenceReport, SequenceRun, Setting
from bittern.models.language import RecurrentLanguageModel
from bittern.nn.convert import convert
from bittern.quant.alternating import Alternating, approximate
from bittern.train.sequences import SequenceRecipe, perplexity, train_sequences

WITHOUT_TRAINING = (("greedy", 0, False), ("refined greedy", 0, True), ("alternating", 1, False))
"""(name, share of the setting's cycles, refined)."""
BITS = (2, 3, 4)
RETRAINED = ((2, 2), (2, 3), (3, 3))
"""(bits of weights, of inputs)."""


def run(
    texts: tuple[str, Tensor, Tensor, int],
    *,
    command: str,
    level: str,
    seeds: Sequence[int] = (0, 1, 2),
    kind: Literal["lstm", "gru"] = "lstm",
    width: int = 200,
    layers: int = 1,
    tied: bool = False,
    epochs: int = 6,
    retrain_epochs: int = 2,
    batch: int = 32,
    unroll: int = 32,
    learning_rate: float = 4e-3,
    retrain_rate: float = 1e-3,
    path: Path | None = None,
    threads: int = 1,
    on_run: Callable[[SequenceRun], None] | None = None,
) -> SequenceReport:
    """Train and measure all rows of all seeds. texts: (name, training tokens, test tokens, size of the vocabulary).

    path: JSON, with a page beside it; a later call goes on where one stopped.
    Raises: as `run_trials`, and ValueError for texts that are too short.
    """
    name, train, test, vocabulary = texts
    s = Setting(
        text=name,
        level=level,
        vocabulary=vocabulary,
        train_tokens=len(train),
        test_tokens=len(test),
        kind=kind,
        width=width,
        layers=layers,
        tied=tied,
        batch=batch,
        unroll=unroll,
        epochs=epochs,
        retrain_epochs=retrain_epochs,
        learning_rate=learning_rate,
        retrain_rate=retrain_rate,
        cycles=15,
        train_cycles=2,
    )
    with torch_threads(threads):
        fresh = SequenceReport(command, this_machine(), s, ())
        return run_trials(
            "bench sequences", path, fresh, _trials(s, train, test, seeds), lambda r: r.key, on_run=on_run
        )


def _trials(s: Setting, train: Tensor, test: Tensor, seeds: Sequence[int]) -> list[Trial[SequenceRun]]:
    @cache
    def trained(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        kind: Literal["lstm", "gru"] = "gru" if s.kind == "gru" else "lstm"
        model = RecurrentLanguageModel(s.vocabulary, s.width, s.layers, kind=kind, tied=s.tied)
        train_sequences(model, train, _recipe(s, s.epochs, s.learning_rate))
        return model

    def measure(name: str, bits: tuple[int, int], seed: int, make: Callable[[nn.Module], nn.Module]) -> SequenceRun:
        return SequenceRun(name, *bits, seed, perplexity(make(trained(seed)), test))

    def retrained(bits: tuple[int, int], seed: int, model: nn.Module) -> nn.Module:
        model = copy.deepcopy(model) if bits[0] == REAL else convert(model, _method(s, bits), keep=())
        torch.manual_seed(seed)
        train_sequences(model, train, _recipe(s, s.retrain_epochs, s.retrain_rate))
        return model

    trials = []
    for seed in seeds:
        rows: list[tuple[str, tuple[int, int], Callable[[nn.Module], nn.Module]]] = [(FLOAT, (REAL, REAL), _same)]
        for name, share, refined in WITHOUT_TRAINING:
            for bits in BITS:
                make = partial(approximate, bits=bits, cycles=share * s.cycles, refined=refined)
                rows.append((name, (bits, REAL), make))
        for both in ((REAL, REAL), *RETRAINED):
            rows.append(("retrained", both, partial(retrained, both, seed)))
        trials += [Trial((name, *bits, seed), partial(measure, name, bits, seed, make)) for name, bits, make in rows]
    return trials


def _same(model: nn.Module) -> nn.Module:
    return model


def _recipe(s: Setting, epochs: int, rate: float) -> SequenceRecipe:
    return SequenceRecipe(epochs=epochs, batch=s.batch, unroll=s.unroll, learning_rate=rate)


def _method(s: Setting, bits: tuple[int, int]) -> partial[Alternating]:
    cycles = s.train_cycles
    return partial(Alternating, bits=bits[0], input_bits=bits[1], cycles=cycles, input_cycles=cycles)
