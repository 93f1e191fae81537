# SPDX-License-Identifier: Apache-2.0
"""Splits of several batches into these: torch.cat([a, b]).chunk(2).

torch works out how many parts there are by rounding a quotient of sizes up, and so takes the batch for a constant.
Slices stand in place of such a split while a model is exported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CHUNKS = (torch.chunk, Tensor.chunk)
SPLITS = (torch.split, Tensor.split, torch.functional.split)


class BatchSplits(TorchFunctionMode):
    """Inside, such splits of this thread are slices."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in CHUNKS or func in SPLITS:
            parts = _slices(func in CHUNKS, *args, **kwargs)
            if parts is not None:
                return parts
        return func(*args, **kwargs)


def _slices(chunks: bool, input: Tensor, *given: Any, **named: Any) -> tuple[Tensor, ...] | None:
    """The parts of a split along the first dimension into equal ones; None of others, and where no size is a symbol.

    What is asked of sizes here is true of every batch once torch.export has learnt that all batches are the same; where
    it is not, the export fails as it does without.
    """
    dim = given[1] if len(given) > 1 else named.pop("dim", 0)
    wish = given[0] if given else next(iter(named.values()), None)
    size: Any = input.shape[0]  # a symbol of torch, while it exports
    if dim % input.ndim or not isinstance(size, torch.SymInt) or not isinstance(wish, int | torch.SymInt):
        return None
    if wish <= 0 or size % wish != 0:
        return None
    each, count = (size // wish, wish) if chunks else (wish, size // wish)
    return tuple(input[index * each : (index + 1) * each] for index in range(int(count)))
