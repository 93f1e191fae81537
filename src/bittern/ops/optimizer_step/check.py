# SPDX-License-Identifier: Apache-2.0
"""What `optimizer_step` demands of its arguments, with errors that say which tensor is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bittern.ops.optimizer_step.arguments import StepArguments
from bittern.ops.optimizer_step.layout import (
    BLOCK_SIZES,
    STATE_BITS,
    Storage,
    block_count,
    code_count,
    storage_of,
)
from bittern.ops.optimizer_step.rules import SPECS, Rule, RuleSpec

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def is_dense(x: Tensor) -> bool:
    """Whether the elements fill one piece of memory, in any order of dimensions."""
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in zip(x.stride(), x.shape, strict=True) if size != 1):
        if size == 0:
            return True
        if stride != expected:
            return False
        expected *= size
    return True


def _fail(i: int, rule: str, came: object, advice: str) -> None:
    raise ValueError(f"optimizer_step: tensor {i}: {rule}; got {came}; {advice}")


def check_step(a: StepArguments) -> None:
    """Raises ValueError or TypeError for arguments that the contract does not allow."""
    rule, params, grads, states, absmax, scalars, bits, block_size, row_length, compensation, _, seeds, at_random = a
    if rule not in SPECS:
        raise ValueError(f"optimizer_step: rule must be a Rule (0 to {len(SPECS) - 1}); got {rule}")
    spec, n = SPECS[Rule(rule)], len(params)
    lengths = {"grads": (grads, n), "states": (states, n * len(spec.states)), "absmax": (absmax, n * len(spec.states))}
    lengths |= {"bits": (bits, n), "block_size": (block_size, n), "row_length": (row_length, n)}  # type: ignore[dict-item]
    for name, (values, expected) in lengths.items():
        if len(values) != expected:
            raise ValueError(f"optimizer_step: {name} must have {expected} entries for {n} tensors; got {len(values)}")
    if len(compensation) not in (0, n):
        raise ValueError(f"optimizer_step: compensation must have 0 or {n} entries; got {len(compensation)}")
    columns = len(spec.scalars)
    if scalars.dtype != torch.float32 or scalars.ndim != 2 or scalars.shape[1] != columns or len(scalars) not in (1, n):
        raise ValueError(
            f"optimizer_step: scalars must be float32 [1 or {n}, {columns}] ({', '.join(spec.scalars)}); "
            f"got {scalars.dtype} {list(scalars.shape)}"
        )
    check_seeds(seeds, n)
    if not set(at_random) <= {4, 8}:
        raise ValueError(f"optimizer_step: at_random must be of 4 and 8, bits of states; got {list(at_random)}")
    if len({id(p) for p in params}) != n:
        raise ValueError("optimizer_step: a parameter is given twice; its two steps would race")
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        _check_pair(i, p, g, compensation[i] if compensation else None)
        _check_blocks(i, p, bits[i], block_size[i], row_length[i])
        mine = slice(i * len(spec.states), (i + 1) * len(spec.states))
        logarithmic = seeds is not None and 4 in at_random
        storages = [storage_of(state, bits[i], logarithmic) for state in spec.states]
        _check_states(i, p, spec, storages, states[mine], absmax[mine], block_size[i], row_length[i])


def check_seeds(seeds: Tensor | None, n: int) -> None:
    """Raises ValueError for seeds that do not belong to n tensors."""
    if seeds is not None and (seeds.dtype != torch.int64 or seeds.shape not in ((1,), (n,))):
        raise ValueError(f"optimizer_step: state_seeds must be int64 [1 or {n}]; got {seeds.dtype} {list(seeds.shape)}")


def _check_pair(i: int, p: Tensor, g: Tensor, lost: Tensor | None) -> None:
    for name, x in (("parameter", p), ("gradient", g)):
        if x.dtype not in _FLOATS:
            raise TypeError(f"optimizer_step: tensor {i}: {name} must be float32, bfloat16 or float16; got {x.dtype}")
    if p.shape != g.shape:
        _fail(i, "gradient must have the shape of the parameter", f"{list(g.shape)} and {list(p.shape)}", "check it")
    if p.device != g.device:
        _fail(i, "gradient must be on the device of the parameter", f"{g.device} and {p.device}", "move it")
    if not is_dense(p):
        _fail(i, "parameter must be dense in memory", f"strides {p.stride()}", "pass p.contiguous()")
    if _strides(p) != _strides(g):
        _fail(i, "gradient must have the strides of the parameter", f"{g.stride()} and {p.stride()}", "copy it")
    if lost is not None and (lost.dtype != p.dtype or _strides(lost) != _strides(p) or lost.shape != p.shape):
        _fail(i, "compensation must be like the parameter", f"{lost.dtype} {list(lost.shape)}", "use torch.zeros_like")


def _strides(x: Tensor) -> tuple[int, ...]:
    """Strides that matter: of dimensions with more than one element."""
    return tuple(stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1) if x.numel() else ()


def _check_blocks(i: int, p: Tensor, bits: int, block: int, row: int) -> None:
    if bits not in STATE_BITS:
        _fail(i, "bits must be 32, 8 or 4", bits, "choose one")
    if block not in BLOCK_SIZES:
        _fail(i, f"block_size must be a power of two, {BLOCK_SIZES[0]} to {BLOCK_SIZES[-1]}", block, "256 is usual")
    if p.numel() and (row < 1 or p.numel() % row):
        _fail(i, f"row_length must divide its {p.numel()} elements", row, "pass numel() for one row")


def _reachable(stored: Tensor, p: Tensor) -> bool:
    """On the device of p, or in pinned host memory where p is on CUDA."""
    return stored.device == p.device or (p.is_cuda and stored.is_cpu and stored.is_pinned())


def _check_states(
    i: int,
    p: Tensor,
    spec: RuleSpec,
    storages: Sequence[Storage],
    states: Sequence[Tensor],
    absmax: Sequence[Tensor],
    block: int,
    row: int,
) -> None:
    for state, storage, stored, scale in zip(spec.states, storages, states, absmax, strict=True):
        bits = storage.bits
        dtype = torch.float32 if bits == 32 else torch.uint8
        numel = p.numel() if bits == 32 else code_count(p.numel(), bits, row)
        if stored.dtype != dtype or stored.numel() != numel or not _reachable(stored, p):
            came = f"{stored.dtype} {list(stored.shape)} on {stored.device}"
            _fail(
                i, f"state {state.name!r} must be {dtype} with {numel} elements on {p.device}", came, "allocate it so"
            )
        if bits != 4 and stored.shape == p.shape and _strides(stored) != _strides(p):
            _fail(i, f"state {state.name!r} must have the strides of the parameter", stored.stride(), "copy it")
        if not is_dense(stored):
            _fail(i, f"state {state.name!r} must be dense in memory", stored.stride(), "copy it")
        scales = storage.scales * block_count(p.numel(), block, row)
        fits = scale.dtype == torch.float32 and scale.numel() == scales and scale.is_contiguous()
        if not fits or (scales and not _reachable(scale, p)):
            came = f"{scale.dtype} {list(scale.shape)} on {scale.device}"
            _fail(
                i, f"absmax of {state.name!r} must be contiguous float32 with {scales} elements", came, "see layout.py"
            )
