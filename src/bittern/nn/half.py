# SPDX-License-Identifier: Apache-2.0
"""Storage in 16 bits: the constants of a trained network as float16 or bfloat16, computed with as float32."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

TYPES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class HalfTensor:
    """What became of one tensor; counts are of its elements."""

    name: str
    elements: int
    overflow: int
    """Finite numbers beyond the largest of the type, which are now that one, with their sign."""
    underflow: int
    """Numbers that are now 0 and were not."""
    subnormal: int
    """Numbers that lost bits because they lie below the smallest normal one."""
    largest_error: float
    """The largest |new - old| of those that did not overflow."""
    kept: str = ""
    """Why it stayed as it was; "": it did not."""


@dataclass(frozen=True, slots=True)
class HalfReport:
    """Every floating-point tensor of a network, in the order of its state_dict."""

    tensors: tuple[HalfTensor, ...]
    bytes_before: int
    bytes_after: int

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of those in 16 bits."""
        return tuple(t.name for t in self.tensors if not t.kept)

    def __str__(self) -> str:
        """One line, and one for each tensor that overflows, underflows or stays."""
        lines = [f"{len(self.stored)} tensors in 16 bits: {self.bytes_before:,} bytes became {self.bytes_after:,}"]
        for t in self.tensors:
            if t.kept:
                lines.append(f"  {t.name}: stays, {t.kept}")
            elif t.overflow or t.underflow or t.subnormal:
                lines.append(
                    f"  {t.name}: of {t.elements}, {t.overflow} overflow, {t.underflow} become 0, "
                    f"{t.subnormal} lose bits as subnormals"
                )
        return "\n".join(lines)


class HalfStored(nn.Module):
    """A network in eval mode whose constants are stored in 16 bits; `state_dict` holds those.

    The first call makes float32 of them, once, on whatever device they are; from then on it costs what the network
    costs. Saved and loaded it is the same, to the bit, before and after that. It does not train.
    Errors: RuntimeError for `train()`.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], dtype: torch.dtype, report: HalfReport) -> None:
        super().__init__()
        self.model, self.dtype, self.report = model.eval(), dtype, report
        self._names, self._ready = frozenset(names), False
        self.training = False
        self.register_state_dict_post_hook(_in_16_bits)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_as_they_lie)  # type: ignore[no-untyped-call]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the network's."""
        if not self._ready:
            self._to(torch.float32)
        return self.model(*args, **kwargs)

    def train(self, mode: bool = True) -> HalfStored:
        """Only train(False)."""
        if mode:
            raise RuntimeError("HalfStored: its numbers are rounded to 16 bits and do not train; train the network")
        return super().train(mode)

    def _to(self, dtype: torch.dtype) -> None:
        with torch.no_grad():
            for name, tensor in _tensors(self.model).items():
                if name in self._names:
                    tensor.data = tensor.data.to(dtype)
        self._ready = dtype == torch.float32


def _in_16_bits(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    assert isinstance(module, HalfStored)
    for name in module._names:
        key = f"{prefix}model.{name}"
        state[key] = state[key].to(module.dtype)


def _as_they_lie(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Refuse numbers that 16 bits would round. Raises: ValueError."""
    assert isinstance(module, HalfStored)
    for name in module._names:
        found = state.get(f"{prefix}model.{name}")
        if not isinstance(found, Tensor):
            continue
        if not torch.equal(found.to(module.dtype).to(found.dtype).nan_to_num(), found.nan_to_num()):
            raise ValueError(
                f"HalfStored: {name!r} of the state has numbers that {module.dtype} does not have; load it into the "
                "network and call store_half"
            )


def store_half(model: nn.Module, dtype: torch.dtype = torch.float16, *, keep: Sequence[str] = ()) -> HalfStored:
    """A copy of `model` whose float32 and float64 parameters and buffers are stored in 16 bits; `report` says how.

    dtype: float16, to even, what is beyond +-65504 becomes that; or bfloat16, likewise beyond its largest number.
    keep: fnmatch patterns of names in the state_dict that stay as they are, as "*.running_var" or "head.*".
    Integers, booleans, complex numbers and what has 16 bits already stay. Infinity and NaN stay what they are.
    Errors: ValueError for another dtype, for a pattern that names nothing, where nothing is left to store.
    """
    if dtype not in TYPES:
        raise ValueError(f"store_half: dtype must be torch.float16 or torch.bfloat16; got {dtype}")
    model = copy.deepcopy(model)
    tensors = _tensors(model)
    for pattern in keep:
        if not any(fnmatchcase(name, pattern) for name in tensors):
            raise ValueError(f"store_half: keep names no tensor: {pattern!r}; there are {', '.join(tensors)}")
    rows, before = [], sum(t.numel() * t.element_size() for t in tensors.values())
    with torch.no_grad():
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                continue
            row, half = _stored(name, tensor, dtype, next((p for p in keep if fnmatchcase(name, p)), None))
            rows.append(row)
            if half is not None:
                tensor.requires_grad_(False)
                tensor.data = half
    after = sum(t.numel() * t.element_size() for t in tensors.values())
    report = HalfReport(tuple(rows), before, after)
    if not report.stored:
        raise ValueError("store_half: no tensor is left to store in 16 bits; pass another model or keep")
    halves = {id(tensors[name]) for name in report.stored}
    names = [name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in halves]  # also if tied
    return HalfStored(model, names, dtype, report)


def _stored(name: str, x: Tensor, dtype: torch.dtype, pattern: str | None) -> tuple[HalfTensor, Tensor | None]:
    """Its row, and it in 16 bits; None where it stays."""
    if pattern is not None or x.dtype not in (torch.float32, torch.float64):
        why = f"keep: {pattern}" if pattern is not None else f"it is {x.dtype} already"
        return HalfTensor(name, x.numel(), 0, 0, 0, 0.0, why), None
    limits = torch.finfo(dtype)
    real = x.detach()
    beyond = real.isfinite() & ~real.to(dtype).isfinite()
    half = torch.where(beyond, torch.copysign(torch.full_like(real, limits.max), real), real).to(dtype)
    back = half.to(real.dtype)
    error = torch.where(real.isfinite() & ~beyond, (back - real).abs(), 0.0)
    small = (real.abs() < limits.smallest_normal) & (back != real) & (back != 0)
    return HalfTensor(
        name,
        x.numel(),
        int(beyond.sum()),
        int(((back == 0) & (real != 0)).sum()),
        int(small.sum()),
        float(error.max()) if x.numel() else 0.0,
    ), half


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a state_dict holds, the tensors themselves, each once."""
    saved = model.state_dict(keep_vars=True)
    once: dict[int, str] = {}
    return {name: t for name, t in saved.items() if isinstance(t, Tensor) and once.setdefault(id(t), name) == name}
