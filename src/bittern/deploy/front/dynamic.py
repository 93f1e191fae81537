# SPDX-License-Identifier: Apache-2.0
"""Which dimensions besides the batch the caller of `pack` wants to be of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch.export import Dim

from bittern.deploy.errors import PackError
from bittern.deploy.front.example import Example
from bittern.deploy.input_format import is_size_name
from bittern.deploy.program import MOST_SIZES

LEAST_EXAMPLE = 2
"""torch.export takes a size of 0 or 1 for a number of the model's own."""


class Limits(NamedTuple):
    """Which sizes a name may have."""

    least: int = 1
    most: int | None = None
    given: bool = False
    """Whether the caller said so; else the model's own limits are taken, as torch.export finds them."""

    def within(self, found: Any) -> Limits:
        """These limits and those of a range that torch.export found."""
        least, most = (int(end) if end.is_Integer else None for end in (found.lower, found.upper))
        both = [end for end in (self.most, most) if end is not None]
        return self._replace(least=max(self.least, least or 0), most=min(both, default=None))

    def to_torch(self, name: str) -> Any:
        return Dim(name, min=self.least if self.least > 1 else None, max=self.most)


class Dynamic(NamedTuple):
    """What of an example is named."""

    dims: tuple[Mapping[int, str], ...] = ()
    """Of each tensor: dimension -> name."""
    limits: Mapping[str, Limits] = {}


def read_dynamic(example: Example, asked: Any) -> Dynamic:
    """What `pack(dynamic=...)` asks for. Raises: PackError."""
    if asked is None:
        return Dynamic(tuple({} for _ in example.tensors))
    by_input = _by_input(example, asked)
    limits: dict[str, Limits] = {}
    dims = tuple(_dims(example, place, by_input.get(name, {}), limits) for place, name in enumerate(example.names))
    if not limits:
        raise PackError("pack: dynamic names no dimension; leave it out, or name some, as in {2: 'height', 3: 'width'}")
    if len(limits) > MOST_SIZES:
        raise PackError(f"pack: dynamic has {len(limits)} names; a program has at most {MOST_SIZES}")
    _check_example(example, dims, limits)
    return Dynamic(dims, limits)


def _by_input(example: Example, asked: Any) -> Mapping[str, Mapping[Any, Any]]:
    """Dimensions by the name of the input. Raises: PackError."""
    if isinstance(asked, Mapping) and asked and all(isinstance(key, int) for key in asked):
        if len(example.names) > 1:
            raise PackError(
                f"pack: dynamic must say of which input, as in {{{example.names[0]!r}: {dict(asked)}}}; the inputs are "
                f"{', '.join(example.names)}"
            )
        return {example.names[0]: asked}
    if not isinstance(asked, Mapping) or not all(isinstance(dims, Mapping) for dims in asked.values()):
        raise PackError(
            f"pack: dynamic must be a dict of inputs by name, each with a dict of its dimensions, as in "
            f"{{{example.names[0]!r}: {{1: 'length'}}}}; got {str(asked)[:80]}"
        )
    unknown = [str(name) for name in asked if name not in example.names]
    if unknown:
        raise PackError(
            f"pack: dynamic names the input {unknown[0]!r}; the inputs of this example are {', '.join(example.names)}"
        )
    return asked


def _dims(example: Example, place: int, asked: Mapping[Any, Any], limits: dict[str, Limits]) -> Mapping[int, str]:
    """The named dimensions of one tensor; what is said of each name goes into `limits`. Raises: PackError."""
    found: dict[int, str] = {}
    rank, owner = example.tensors[place].ndim, f"pack: dynamic: input {example.names[place]!r}"
    for dim, wish in asked.items():
        if type(dim) is not int or not -rank <= dim < rank:
            raise PackError(f"{owner} has the dimensions 0 ... {rank - 1}; got {dim!r}")
        name, own = _wish(f"{owner}, dimension {dim}", wish)
        if limits.setdefault(name, own) != own:
            raise PackError(f"{owner}: {name!r} has other limits than before; give it the same ones everywhere")
        found[dim % rank] = name
    return found


def _wish(owner: str, wish: Any) -> tuple[str, Limits]:
    """(name, limits) of a dimension. Raises: PackError."""
    limits = Limits()
    name = wish
    if type(wish) is Dim:
        name, most = wish.__name__, wish.max
        limits = Limits(max(1, int(wish.min)), most if isinstance(most, int) else None, given=True)
    if not is_size_name(name):
        raise PackError(
            f"{owner} must have a name, as a variable has (the batch is found by itself), or be a torch.export.Dim "
            f"with its own limits; got {wish!r}"
        )
    return name, limits


def _check_example(example: Example, dims: Sequence[Mapping[int, str]], limits: Mapping[str, Limits]) -> None:
    """Refuse an example that does not show what is asked. Raises: PackError."""
    seen: dict[str, int] = {}
    for name, x, named in zip(example.names, example.tensors, dims, strict=True):
        for dim, size_name in named.items():
            size, (least, most, _) = x.shape[dim], limits[size_name]
            if seen.setdefault(size_name, size) != size:
                raise PackError(
                    f"pack: dynamic: {size_name!r} is {seen[size_name]} in the example, and {size} in its input "
                    f"{name!r}; one name is one size"
                )
            if size < max(least, LEAST_EXAMPLE) or (most is not None and size > most):
                above = "" if most is None else f" and at most {most}"
                raise PackError(
                    f"pack: dynamic: {size_name!r} is {size} in the example; give one where it is at least "
                    f"{max(least, LEAST_EXAMPLE)}{above}"
                )
