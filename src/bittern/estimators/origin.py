# SPDX-License-Identifier: Apache-2.0
"""Values that are computed again, to the bit, from tensors that their graph keeps anyway, so that they need not be.

Whoever wants values in its backward asks `origin_of` and saves the tensors that it names: a storage that the function
behind the values has saved already takes no more memory. That function itself is not asked in backward, because it may
have run by then, and because torch.utils.checkpoint lets a saved tensor be read only once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Origin(NamedTuple):
    """again(*tensors) are the values."""

    tensors: tuple[Tensor, ...]
    again: Callable[..., Tensor]


class _Note(NamedTuple):
    x: weakref.ref[Tensor]
    others: tuple[Tensor, ...]
    again: Callable[..., Tensor]


def note_origin(ctx: Any, again: Callable[..., Tensor], x: Tensor, *others: Tensor) -> None:
    """For the forward of an autograd function that saves x and others, and whose result is again(x, *others).

    others: parameters or small tensors, which the note keeps alive; x it does not.
    """
    if not torch.compiler.is_compiling():
        ctx.origin = _Note(weakref.ref(x), others, again)


def origin_of(values: Tensor) -> Origin | None:
    """What the values came from, if the function behind them noted it and they have not been changed since."""
    note = getattr(values.grad_fn, "origin", None)
    if not isinstance(note, _Note) or values._version != 0:
        return None
    x = note.x()
    return None if x is None else Origin(tuple(t.detach() for t in (x, *note.others)), note.again)
