# SPDX-License-Identifier: Apache-2.0
"""The arguments that every optimizer of this package has beside those of its rule, and the checks of all arguments.

Each is kept per parameter group, so `{"params": ..., "state_bits": 32}` overrides it for some parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

Group = dict[str, Any]
Number = float | Tensor

SMALLEST_BLOCK, LARGEST_BLOCK = 32, 4096
DEFAULT_BLOCK = {8: 256, 4: 128, 32: 256}
PARAMETER_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Options(TypedDict, total=False):
    """Keyword arguments shared by all optimizers; see `LowBitOptimizer`."""

    state_bits: int
    block_size: int | None
    min_8bit_size: int
    nonfinite: Literal["skip", "raise"]
    rounding: Literal["nearest", "stochastic", "kahan"]
    state_rounding: Literal["nearest", "stochastic"] | None
    offload: Literal["cpu"] | None


DEFAULTS: Options = {
    "state_bits": 8,
    "block_size": None,
    "min_8bit_size": 4096,
    "nonfinite": "skip",
    "rounding": "nearest",
    "state_rounding": None,
    "offload": None,
}
ROUNDING_OF_8_BITS = "state_rounding_8bit"
"""Group key that says how squares of 8 bits are rounded; "state_rounding" says it of states of 4 bits.

Both come from the argument state_rounding. They are two because files and pickles of before hold "state_rounding":
"stochastic", then the default, beside states of 8 bits that go to nearest; that goes on to mean just this.
"""
STORAGE = ("state_bits", "block_size", "min_8bit_size", "rounding", "state_rounding", ROUNDING_OF_8_BITS, "offload")
"""Group keys that say how this process stores states: `load_state_dict` leaves them as they are."""

OURS = (*DEFAULTS, ROUNDING_OF_8_BITS)
"""Group keys that other packages do not know."""

ADDED = {"state_rounding": "nearest", ROUNDING_OF_8_BITS: "nearest"}
"""Group keys that checkpoints of before lack, and what they stood for."""

_CHOICES: dict[str, tuple[object, ...]] = {
    "state_bits": (32, 8, 4),
    "nonfinite": ("skip", "raise"),
    "rounding": ("nearest", "stochastic", "kahan"),
    "state_rounding": (None, "nearest", "stochastic"),
    ROUNDING_OF_8_BITS: ("nearest", "stochastic"),
    "offload": (None, "cpu"),
}


def complete(owner: str, options: Options) -> dict[str, Any]:
    """`options` with the defaults filled in; TypeError for a name that does not exist."""
    unknown = sorted(set(options) - set(DEFAULTS))
    if unknown:
        raise TypeError(f"{owner}: no argument {unknown[0]!r}; beside its rule's it takes {', '.join(DEFAULTS)}")
    return {**DEFAULTS, **options}


def settle_rounding(group: Group) -> None:
    """Makes of the argument state_rounding the two keys of a group; None is the default of 4 bits and that of 8."""
    asked = group["state_rounding"]
    group.setdefault(ROUNDING_OF_8_BITS, "nearest" if asked is None else asked)
    if asked is None:
        group["state_rounding"] = "stochastic"


def check_options(owner: str, group: Mapping[str, Any]) -> None:
    """ValueError unless the shared arguments of a group are valid."""
    for name, allowed in _CHOICES.items():
        if group[name] not in allowed:
            raise ValueError(f"{owner}: {name} must be one of {allowed}; got {group[name]!r}")
    size = group["block_size"]
    if size is not None and not (
        isinstance(size, int) and SMALLEST_BLOCK <= size <= LARGEST_BLOCK and size & (size - 1) == 0
    ):
        raise ValueError(
            f"{owner}: block_size must be a power of two from {SMALLEST_BLOCK} to {LARGEST_BLOCK}, or None; got {size}"
        )
    if group["min_8bit_size"] < 0:
        raise ValueError(f"{owner}: min_8bit_size must be at least 0; got {group['min_8bit_size']}")
    if group.get("differentiable"):
        raise ValueError(f"{owner}: differentiable=True is not supported; use torch.optim for it")
    for name in ("foreach", "fused"):
        if group.get(name) is False:
            raise ValueError(f"{owner}: every step is fused over all tensors; leave out {name}=False")


def check_parameter(owner: str, p: Tensor) -> None:
    """TypeError or ValueError unless `p` is a parameter that the kernels can update."""
    if p.dtype not in PARAMETER_DTYPES:
        kind = "complex" if p.is_complex() else str(p.dtype)
        raise TypeError(
            f"{owner}: parameters must be float32, bfloat16 or float16; got {kind} {list(p.shape)}; leave it out"
        )
    if p.layout is not torch.strided:
        raise TypeError(f"{owner}: parameters must be dense; got layout {p.layout}; give it to SparseAdam")


def check_not_negative(owner: str, group: Mapping[str, Any], *names: str) -> None:
    """ValueError unless each named argument is at least 0; a tensor must have one element."""
    for name in names:
        value = group[name]
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"{owner}: {name} as a tensor must have one element; got {list(value.shape)}")
        if not value >= 0.0:
            raise ValueError(f"{owner}: {name} must be at least 0; got {value}")


def check_betas(owner: str, betas: tuple[Number, ...], count: int) -> None:
    """ValueError unless there are `count` decay rates in [0, 1)."""
    if len(betas) != count:
        raise ValueError(f"{owner}: betas needs {count} numbers; got {betas}")
    for i, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"{owner}: betas[{i}] must be in [0, 1); got {beta}")


def check_floats_only(owner: str, group: Mapping[str, Any], state: str) -> None:
    """ValueError for few bits where the only state is one that keeps float32."""
    if group["state_bits"] != 32:
        raise ValueError(
            f"{owner}: state_bits must be 32, for {state} moves by less than a code of few bits; "
            f"got {group['state_bits']}; leave it out"
        )


def scalar(x: Any) -> Any:
    """A one-element tensor as a Python number, anything else unchanged."""
    return x.item() if isinstance(x, Tensor) else x
