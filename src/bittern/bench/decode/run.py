# SPDX-License-Identifier: Apache-2.0
"""`bittern bench decode`: tokens a second of a Llama-shaped model, one at a time and as a prompt, against torch.

Decoding reads every weight once a token, so memory is its roof: "of peak" is the time in which the codes and scales
could be read at the best rate that was seen, over the time of a token. A prompt is limited by arithmetic. Each row is
timed in turn with the float32 model, in one process; 187 million weights fit no cache. Attention, norms and the
cached keys and values (of a prompt's length) are torch's in every row.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from bittern.bench.core.machine import Machine, this_machine
from bittern.bench.core.rows import OpRow, rows_table
from bittern.bench.core.store import to_json
from bittern.bench.core.timing import check_budget, compare, torch_threads
from bittern.bench.decode.model import LLAMA, Decoder, Shape
from bittern.bench.weights.peers.bitsandbytes_nf4 import BITSANDBYTES, quantized
from bittern.bench.weights.roof import Sweep, sweep_bytes
from bittern.nn import Linear4bit, Linear8bit, LinearGroups, quantize
from bittern.nn.quantize import FrozenKind
from bittern.ops import chosen_isa

FORMATS: Mapping[str, FrozenKind] = {
    "nf4": Linear4bit,
    "nf4-nested": partial(Linear4bit, nested=True),
    "int8": Linear8bit,
    "groups4": LinearGroups,
    "groups4-int8": partial(LinearGroups, activations="int8"),
    "groups2-int8": partial(LinearGroups, bits=2, activations="int8"),
}
"""Frozen layers by the names under which they are asked for."""
DEFAULT = ("nf4", "int8", "groups4", "groups4-int8")
PROMPT = 128


@dataclass(frozen=True, repr=False, slots=True)
class DecodeReport:
    """Everything measured by one run; `print(report)` shows a table."""

    command: str
    machine: Machine
    read_gb_s: tuple[tuple[int, float], ...]
    """Numbers of threads, and 1e9 bytes a second that they read from memory at best."""
    rows: tuple[OpRow, ...]

    def to_json(self) -> str:
        return to_json(self)

    def __str__(self) -> str:
        return "\n\n".join(
            [
                str(self.machine),
                "memory read at best: " + ", ".join(f"{gb_s:.1f} GB/s, {n} thread(s)" for n, gb_s in self.read_gb_s),
                rows_table(self.rows),
                "ratio: time of torch's float32 model / of the row's, pair by pair, median (min - max). of peak: of "
                "one token, the least time to read the weights over its own; of bitsandbytes without its scales, which "
                "are no buffers.",
                f"Command: {self.command}",
            ]
        )

    __repr__ = __str__


def run(
    threads: Sequence[int] = (1,),
    *,
    command: str,
    formats: Sequence[str] = DEFAULT,
    dtype: torch.dtype = torch.float32,
    with_peers: bool = True,
    shape: Shape = LLAMA,
    prompt: int = PROMPT,
    budget_s: float = 4.0,
    on_row: Callable[[str], None] | None = None,
) -> DecodeReport:
    """Measure on the CPU, about `budget_s` seconds for each row.

    formats: names in FORMATS. dtype: of the numbers between frozen layers. prompt: tokens of a prompt, and of what is
    cached when one more is decoded.

    Raises: ValueError for less than one thread, a budget that is not positive, a prompt that does not fit the context.
    """
    check_budget(budget_s)
    if not 0 < prompt < shape.context:
        raise ValueError(f"bench decode: a prompt must have 1 to {shape.context - 1} tokens; got {prompt}")
    model = Decoder(shape).eval().requires_grad_(False)
    makers: dict[str, Callable[[], nn.Module]] = {
        name: partial(_frozen, model, FORMATS[name], dtype) for name in formats
    }
    if with_peers:
        makers |= _peers(model)
    rows: list[OpRow] = []
    sweeps = {count: Sweep(sweep_bytes()) for count in threads}
    for name, make in makers.items():
        other = make()
        for count in threads:
            with torch_threads(count):
                if on_row is not None:
                    on_row(f"{name}, {count} threads")
                for _ in range(4):
                    sweeps[count]()
                rows += _rows(name, other, model, prompt, count, budget_s, sweeps[count])
        del other
    with torch_threads(max(threads)):
        return DecodeReport(
            command, this_machine(), tuple((n, sweep.gb_s()) for n, sweep in sweeps.items()), tuple(rows)
        )


def _rows(
    name: str, other: nn.Module, model: nn.Module, prompt: int, threads: int, budget_s: float, sweep: Sweep
) -> list[OpRow]:
    words = torch.arange(prompt + 1).remainder(model.shape.words).unsqueeze(0)  # type: ignore[union-attr,arg-type]
    found = []
    for what, tokens, start in (("prompt", words[:, :prompt], 0), ("one token", words[:, prompt:], prompt)):
        compared = compare(_call(other, tokens, start), _call(model, tokens, start), budget_s=budget_s)
        took = compared.latency_us
        peak = weight_bytes(other) / sweep.gb_s() / 1e3 / took.median if start else None
        found.append(
            OpRow(
                f"{name}: {what}{f' of {prompt}' if start == 0 else ''}, {threads} thread{'s' if threads > 1 else ''}",
                chosen_isa().label if name in FORMATS else "",
                "torch float32",
                took,
                compared.baseline_latency_us,
                compared.speedup,
                tokens.shape[1] / took.median * 1e6,
                "tokens/s",
                peak,
                None,
            )
        )
    return found


def _call(model: nn.Module, tokens: torch.Tensor, start: int) -> Callable[[], object]:
    def forward() -> object:
        with torch.no_grad():
            return model(tokens, start)

    return forward


def weight_bytes(model: nn.Module) -> int:
    """Of everything that a token reads: all parameters and buffers but the table of tokens and the cached keys."""
    parts = [*model.named_parameters(), *model.named_buffers()]
    return sum(t.nbytes for name, t in parts if not name.startswith("tokens.") and not name.endswith(".cache"))


def _frozen(model: nn.Module, kind: FrozenKind, dtype: torch.dtype) -> nn.Module:
    return quantize(model, kind).to(dtype)


def _peers(model: nn.Module) -> dict[str, Callable[[], nn.Module]]:
    """torch's bfloat16, and bitsandbytes where it is installed."""
    found: dict[str, Callable[[], nn.Module]] = {"torch bfloat16": lambda: copy.deepcopy(model).bfloat16()}
    if BITSANDBYTES.missing() is None:
        found[BITSANDBYTES.name] = lambda: _with_bitsandbytes(copy.deepcopy(model).bfloat16())
    return found


def _with_bitsandbytes(model: nn.Module) -> nn.Module:
    for module in list(model.modules()):
        for name, old in list(module.named_children()):
            if isinstance(old, nn.Linear):
                setattr(module, name, quantized(old.float()))
    return model.eval()
