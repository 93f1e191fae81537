# SPDX-License-Identifier: Apache-2.0
"""One side of a matrix in SOAP: a basis near the eigenvectors of a covariance, and that covariance in the basis.

C [d, d] is a running mean of G G^T (or of G^T G), Q [d, d] has orthonormal columns. Kept are Q and A = Q^T C Q: A's
diagonal estimates the eigenvalues, and a gradient that is in the basis already moves it. A power iteration of C,
Q <- QR(C Q), is Q <- Q U with U = QR(A).

In few bits Q is even codes in blocks, made orthonormal again where it is read by Q <- Q (3 I - Q^T Q) / 2 (Björck and
Bowie 1971; as arXiv 2405.18144 has it). Of A the diagonal stays float32 and the rest is codes of
A_ij / sqrt(A_ii A_jj): in A itself a code would be a share of the largest eigenvalues, far above the smallest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern.ops import codebooks, dequantize_4bit, dequantize_blockwise, quantize_4bit, quantize_blockwise
from bittern.optim import _loaded as check
from bittern.optim._state import StateDict

SIDES = "left", "right"
"""Of rows and of columns: the first part of a side's names in a state."""
_BLOCK = 128
"""Entries that share a scale."""
_ITERATIONS = {32: 1, 8: 2, 4: 4}
"""Until columns are orthonormal to float32: each squares the error, which is 0.2 in the norm of matrices for 4 bits."""
_MOST = 1e30
"""Of an entry of A: sums of products with it stay finite."""


def sides_in(state: StateDict) -> list[bool]:
    """Whether a state has each of `SIDES`."""
    return [f"{side}_basis" in state or f"{side}_basis_codes" in state for side in SIDES]


def begin(state: StateDict, side: str, covariance: Tensor, bits: int) -> None:
    """Puts a first C into a state, with its eigenvectors as basis, those of the largest eigenvalues first.

    A C with entries that are not finite counts as 0.
    """
    covariance = torch.where((covariance.abs() < _MOST).all(), covariance, 0.0)
    vectors = torch.linalg.eigh(covariance.double())[1].flip(1).float()
    basis = _put_basis(state, side, vectors, bits)
    _put_covariance(state, side, basis.T @ covariance @ basis, bits)


def basis_of(state: StateDict, side: str, length: int) -> Tensor:
    """Q, float32 [length, length]."""
    floats: Tensor | None = state.get(f"{side}_basis")
    if floats is not None:
        return floats
    codes = state[f"{side}_basis_codes"]
    return _orthonormal(_decoded(codes, state[f"{side}_basis_scales"], length), _ITERATIONS[_bits(codes, length)])


def average(state: StateDict, side: str, product: Tensor, beta: float, bits: int) -> None:
    """A <- beta A + (1 - beta) product; A stays where that is not finite."""
    old = _covariance_of(state, side, product.shape[0])
    new = torch.lerp(product, old, beta)
    _put_covariance(state, side, torch.where((new.abs() < _MOST).all(), new, old), bits)


def turn(state: StateDict, side: str, basis: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """A power iteration: (the order in which the columns of `basis` went into it, T with new Q = basis T).

    T is that of the basis as it will be read, so that what turns with it loses nothing to Q's codes.
    """
    covariance = _covariance_of(state, side, basis.shape[0])
    order = covariance.diagonal().argsort(descending=True, stable=True)
    new = _put_basis(state, side, basis @ torch.linalg.qr(covariance[:, order])[0], bits)
    turned = basis.T @ new
    _put_covariance(state, side, turned.T @ covariance @ turned, bits)
    return order, turned


def take(subject: str, side: str, length: int, p: Tensor, found: dict[str, Any]) -> StateDict:
    """One side out of a saved state, checked; ValueError for one that no step could use."""
    taken: StateDict = {}
    for part, diagonal in (("basis", False), ("covariance", True)):
        name = f"{side}_{part}"
        if name in found:
            floats = check.check_floats(f"{subject}.{name}", found.pop(name), p, (length, length), signed=True)
            taken[name] = floats.to(p.device, torch.float32, copy=True)
            continue
        keys = [f"{name}_codes", f"{name}_scales", *([f"{side}_eigenvalues"] if diagonal else [])]
        missing = [key for key in keys if key not in found]
        if missing:
            raise ValueError(f"{subject} has no {missing[0]}; load a state_dict of SOAP whole")
        codes = check.check_tensor(f"{subject}.{keys[0]}", found.pop(keys[0]), p)
        scales = check.check_absmax(f"{subject}.{keys[1]}", found.pop(keys[1]), p)
        count = length * length
        fits = codes.dtype == torch.uint8 and codes.ndim == 1 and len(codes) in (count, -(-count // 2))
        if not fits or scales.shape != (-(-count // _BLOCK),):
            raise ValueError(
                f"{subject}.{keys[0]} must be uint8, a byte or half of one for each of {count} entries, with a "
                f"scale for every {_BLOCK}; got {codes.dtype} {list(codes.shape)} and {list(scales.shape)}"
            )
        taken |= {keys[0]: codes.to(p.device, copy=True), keys[1]: scales.to(p.device, copy=True)}
        if diagonal:
            values = check.check_floats(f"{subject}.{keys[2]}", found.pop(keys[2]), p, (length,), signed=False)
            taken[keys[2]] = values.to(p.device, torch.float32, copy=True)
    return taken


def _put_basis(state: StateDict, side: str, basis: Tensor, bits: int) -> Tensor:
    """Stores Q; returns it as `basis_of` reads it."""
    _forget(state, f"{side}_basis", f"{side}_basis_codes", f"{side}_basis_scales")
    if bits == 32:
        state[f"{side}_basis"] = _orthonormal(basis, _ITERATIONS[32])
    else:
        state[f"{side}_basis_codes"], state[f"{side}_basis_scales"] = _coded(basis, bits)
    return basis_of(state, side, basis.shape[0])


def _put_covariance(state: StateDict, side: str, covariance: Tensor, bits: int) -> None:
    name, eigenvalues = f"{side}_covariance", f"{side}_eigenvalues"
    _forget(state, name, f"{name}_codes", f"{name}_scales", eigenvalues)
    if bits == 32:
        state[name] = (covariance + covariance.T) / 2
        return
    diagonal = covariance.diagonal().clamp(min=0).clone()
    root = diagonal.sqrt()
    share = torch.where((root > 0) & (root > 0).unsqueeze(1), covariance / root / root.unsqueeze(1), 0.0)
    share.fill_diagonal_(0)
    state[eigenvalues] = diagonal
    state[f"{name}_codes"], state[f"{name}_scales"] = _coded((share + share.T) / 2, bits)


def _forget(state: StateDict, *keys: str) -> None:
    """What is written anew may have been stored in other bits."""
    for key in keys:
        state.pop(key, None)


def _covariance_of(state: StateDict, side: str, length: int) -> Tensor:
    floats: Tensor | None = state.get(f"{side}_covariance")
    if floats is not None:
        return floats
    share = _decoded(state[f"{side}_covariance_codes"], state[f"{side}_covariance_scales"], length)
    diagonal: Tensor = state[f"{side}_eigenvalues"]
    root = diagonal.sqrt()
    covariance = (share + share.T) / 2 * root * root.unsqueeze(1)
    covariance.diagonal().copy_(diagonal)
    return covariance


def _orthonormal(basis: Tensor, iterations: int) -> Tensor:
    for _ in range(iterations):
        basis = torch.addmm(basis, basis, basis.T @ basis, beta=1.5, alpha=-0.5)
    return basis


def _coded(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    table = codebooks.linear(signed=True, bits=bits).to(values.device)
    codes, scales = (quantize_4bit if bits == 4 else quantize_blockwise)(values.flatten(), table, _BLOCK)
    return codes, scales


def _decoded(codes: Tensor, scales: Tensor, length: int) -> Tensor:
    bits = _bits(codes, length)
    table = codebooks.linear(signed=True, bits=bits).to(codes.device)
    if bits == 4:
        return dequantize_4bit(codes.contiguous(), scales, table, _BLOCK, [length, length])
    return dequantize_blockwise(codes.contiguous(), scales, table, _BLOCK).view(length, length)


def _bits(codes: Tensor, length: int) -> int:
    return 8 if len(codes) == length * length else 4
