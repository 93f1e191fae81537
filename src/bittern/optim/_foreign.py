# SPDX-License-Identifier: Apache-2.0
"""State_dicts of bitsandbytes and torchao in this package's terms. Neither package is imported.

bitsandbytes: `state[i] = {"step": int, "__bnb_optimizer_quant_state__": {"state1", "state2", "qmap1", ...}}`; older
files lack the inner dictionary. AdEMAMix stacks its two means in state1 [2, *shape] and absmax1 [2, blocks].
torchao: tensors that have the attributes codes, scale and qmap (4 bits: two codes per byte, the first one high).
Both use the dynamic tree table; blocks of 256 elements (bitsandbytes before 0.44: 2048; torchao 4-bit: 128).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from bittern.ops.optimizer_step import State

_NESTED = "__bnb_optimizer_quant_state__"
_BITSANDBYTES_NAMES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("exp_avg", "exp_avg_slow", "exp_avg_sq"): ("exp_avg", "exp_avg_sq"),
}
"""AdEMAMix: state1 holds the first two states."""


class Coded(NamedTuple):
    """A quantized state with its own code table."""

    codes: Tensor
    absmax: Tensor
    code: Tensor


def read(subject: str, saved: Mapping[str, Any], specs: Sequence[State]) -> dict[str, Any]:
    """A saved state by this package's names; a quantized foreign tensor becomes `Coded`, None values are left out."""
    found = {key: value for key, value in saved.items() if value is not None and key != _NESTED}
    nested = saved.get(_NESTED, {})
    if not isinstance(nested, Mapping):
        raise ValueError(
            f"{subject}: bitsandbytes keeps a dictionary under {_NESTED!r}; got {type(nested).__name__}; save it anew"
        )
    found.update(nested)
    if "state1" in found:
        return _bitsandbytes(subject, found, tuple(spec.name for spec in specs))
    return {key: _torchao(subject, value) for key, value in found.items()}


def _bitsandbytes(subject: str, found: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    result: dict[str, Any] = {"step": found["step"]} if "step" in found else {}
    stored = _BITSANDBYTES_NAMES.get(names, names)
    present = [number for number in (1, 2) if found.get(f"state{number}") is not None]
    if len(stored) != len(present):
        raise ValueError(
            f"{subject} is of another rule: it needs {', '.join(names)}, and bitsandbytes kept {len(present)} states; "
            "load it into the optimizer of the class that saved it"
        )
    for number, name in zip(present, stored, strict=True):
        state, absmax, code = (found.get(f"{part}{number}") for part in ("state", "absmax", "qmap"))
        if not isinstance(state, Tensor) or not all(x is None or isinstance(x, Tensor) for x in (absmax, code)):
            kinds = ", ".join(type(x).__name__ for x in (state, absmax, code))
            raise ValueError(
                f"{subject}: state{number}, absmax{number} and qmap{number} must be tensors; got {kinds}; save it anew"
            )
        if stored != names and number == 1:
            result.update(_halves(subject, names[:2], state, absmax, code))
        else:
            result[name] = _coded(state, absmax, code)
    return result


def _halves(
    subject: str, names: Sequence[str], state: Tensor, absmax: Tensor | None, code: Tensor | None
) -> dict[str, Tensor | Coded]:
    """AdEMAMix's two means, which bitsandbytes stacks."""
    for value in (state, absmax):
        if value is not None and (value.ndim < 1 or len(value) != len(names)):
            raise ValueError(f"{subject}: state1 and absmax1 must stack {names}; got {list(value.shape)}")
    scales = (None, None) if absmax is None else absmax
    return {name: _coded(part, scale, code) for name, part, scale in zip(names, state, scales, strict=True)}


def _coded(state: Tensor, absmax: Tensor | None, code: Tensor | None) -> Tensor | Coded:
    return state if absmax is None or code is None else Coded(state, absmax, code)


def _torchao(subject: str, value: Any) -> Any:
    if all(isinstance(getattr(value, name, None), Tensor) for name in ("codes", "scale", "qmap")):
        if value.qmap.ndim != 1:
            raise ValueError(f"{subject}: a code table has one dimension; got {list(value.qmap.shape)}")
        codes = value.codes if len(value.qmap) == 256 else value.codes.view(1, -1)
        return Coded(codes, value.scale, value.qmap)
    return value


def foreign_group(owner: str, saved: Mapping[str, Any]) -> dict[str, Any]:
    """A saved group without the keys that only bitsandbytes has, its `betas` under this rule's names."""
    if not (isinstance(saved.get("betas"), Sequence) and saved["betas"]):
        return dict(saved)
    group = dict(saved)
    first = group["betas"][0]
    renamed = {"SGD": "momentum", "LARS": "momentum", "RMSprop": "alpha"}.get(owner)
    if renamed is not None or owner == "Adagrad":
        del group["betas"]
        if renamed is not None:
            group[renamed] = first
    return group
