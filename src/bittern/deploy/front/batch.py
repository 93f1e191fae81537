# SPDX-License-Identifier: Apache-2.0
"""Which dimension of each tensor of an example is the batch: found by running the model with other sizes.

Of a model that takes one tensor it is the first dimension, if that has no name. Else sizes of the example are tried one
after another: the first sizes of the tensors in their order, then their other sizes. Each tensor has the batch in the
first of its dimensions that has this size; where the model does not run so with another number there, another dimension
of this size is tried, then none: a tensor without a batch holds for all samples, as a mask of positions or a time does.
Tensors of the same shape are taken alike. What counts as the batch is the first that stands first in all results; if
there is none such, the one that stands first in most of them. Dimensions that the caller has named are none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice, product
from typing import Any

from torch import Tensor

from bittern.deploy.errors import PackError
from bittern.deploy.structure import named
from bittern.deploy.unseen import describe_failure
from bittern.nn._noise import repeated

Dims = tuple[int | None, ...]
"""For each tensor, which dimension is the batch."""

Shapes = list[tuple[int, ...]]

OTHERS = 3, 5
"""Batches with which the model is run: the first that the example does not have. Neither is 1, which fits anything."""

MOST_TRIALS = 64


def batch_dims(
    run: Callable[[Sequence[Tensor]], Any], tensors: Sequence[Tensor], named: Sequence[Collection[int]]
) -> Iterator[Dims]:
    """What may be the batch of each tensor, the likeliest first; run: calls the model; named: dimensions that are none.

    Raises: PackError where it runs with no other batch; what the model raises on the tensors themselves.
    """
    if len(tensors) == 1 and 0 not in named[0]:
        yield (0,)
        return
    before = _shapes(run([x.clone() for x in tensors]))
    found: list[tuple[int, Dims]] = []
    likely = False
    failure = "its inputs have no dimensions"
    for dims in islice(_proposals(tensors, named), MOST_TRIALS):
        size = next(x.shape[dim] for x, dim in zip(tensors, dims, strict=True) if dim is not None)
        other = next(batch for batch in OTHERS if batch != size)
        try:
            after = _shapes(run([repeated(x, dim, other).clone() for x, dim in zip(tensors, dims, strict=True)]))
        except Exception as error:
            failure = describe_failure(error)
            continue
        first = _first_in(before, after, size, other)
        if first == len(before) == len(after):
            likely = True
            yield dims
        elif before != after:
            found.append((first, dims))
        else:
            failure = "its results have the same shapes with every batch"
    found.sort(key=lambda entry: -entry[0])
    yield from (dims for _, dims in found)
    if not found and not likely:
        raise PackError(
            "pack: found no dimension of the inputs that is a batch: the model must also run with another number of "
            f"samples than the example has ({failure}); give every input but tables for all samples the batch as its "
            "first dimension"
        )


def _shapes(answer: Any) -> Shapes:
    return [tuple(x.shape) for x in (named(answer) or {}).values()]


def _first_in(before: Shapes, after: Shapes, size: int, other: int) -> int:
    """In how many results the batch is the first dimension, and no other."""
    pairs = zip(before, after, strict=False)
    return sum(a[:1] == (size,) and b[:1] == (other,) and a[1:] == b[1:] for a, b in pairs)


def _proposals(tensors: Sequence[Tensor], named: Sequence[Collection[int]]) -> Iterator[Dims]:
    """What may be the batch, in the order in which it is tried."""
    # a named size is never one of another number, so it can stand as 0
    each = [
        tuple(0 if d in names else n for d, n in enumerate(x.shape)) for x, names in zip(tensors, named, strict=True)
    ]
    shapes = list(dict.fromkeys(each))
    sizes = [*(size for shape in shapes for size in shape[:1]), *(size for shape in shapes for size in shape[1:])]
    for size in filter(None, dict.fromkeys(sizes)):
        choices = [[*(dim for dim, n in enumerate(shape) if n == size), None] for shape in shapes]
        for chosen in product(*choices):
            if any(dim is not None for dim in chosen):
                by_shape = dict(zip(shapes, chosen, strict=True))
                yield tuple(by_shape[shape] for shape in each)
