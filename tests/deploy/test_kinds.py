# SPDX-License-Identifier: Apache-2.0
"""What each kind says of itself holds for nodes of it, drawn at random.

The nodes are those of `_random_programs`. A kind of which none is drawn fails here, so that a new one without an
entry in `_random_nodes.PROPOSALS`, where it needs one, is not forgotten.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from _random_programs import draft, inputs_for
from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form
from bittern.deploy.kinds.aten_call import OperatorError
from bittern.deploy.kinds.kind import Kind, Step
from bittern.deploy.kinds.table import ALL, KINDS
from bittern.deploy.packed import from_bytes
from bittern.deploy.program import Node
from bittern.deploy.shapes import forms_of

CPU = torch.device("cpu")
SEEDS, MOST_SEEDS, SAMPLES = 150, 1000, 3
LOW_BIT_TYPES = ("bits", "acc", "int8", "int16")

every_kind = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)


class Example(NamedTuple):
    """A node that has run."""

    node: Node
    tensors: dict[str, Tensor]
    """By role."""
    step: Step
    inputs: list[Any]
    result: Any
    reads: list[Form]
    form: Form


def of_program(seed: int) -> Iterator[Example]:
    """The nodes of a random program, if it is sound, up to one at which an operator of torch refuses its arguments."""
    program = draft(seed)
    try:
        packed = from_bytes(program.file())
        packed = packed.at(**{size.name: size.example for size in packed.sizes})
    except FormatError:  # its result is none that a program may have
        return
    forms = forms_of(packed.program, packed.tensors)
    generator = torch.Generator().manual_seed(seed)
    values: dict[int, Any] = dict(enumerate(inputs_for(packed, SAMPLES, generator)))
    for node in packed.program.nodes:
        tensors, inputs = node.named(packed.tensors), [values[v] for v in node.inputs]
        step = KINDS[node.kind].build(node, tensors, CPU)
        try:
            values[node.output] = step(*inputs)
        except OperatorError:
            return
        reads = [forms[v] for v in node.inputs]
        yield Example(node, tensors, step, inputs, values[node.output], reads, forms[node.output])


@functools.cache
def examples() -> dict[str, list[Example]]:
    """Of every kind: those of `SEEDS` programs, and of more where none of a kind was among them."""
    found: dict[str, list[Example]] = {}
    with torch.no_grad():
        for seed in range(MOST_SEEDS):
            if seed >= SEEDS and len(found) == len(KINDS):
                break
            for example in of_program(seed):
                found.setdefault(example.node.kind, []).append(example)
    return found


def tensors_of(value: Any) -> list[Tensor]:
    """A value as the tensors that it is made of."""
    if isinstance(value, Tensor):
        return [value]
    return [part for entry in (value.values() if isinstance(value, dict) else value) for part in tensors_of(entry)]


def places(values: Any) -> set[int]:
    """Addresses of memory that holds something."""
    return {t.untyped_storage().data_ptr() for t in tensors_of(values) if t.numel()}


def test_every_kind_is_drawn() -> None:
    assert set(examples()) == set(KINDS)


def test_names_are_told_apart() -> None:
    assert len(KINDS) == len(ALL)


@every_kind
def test_a_view_is_what_shares_memory_with_its_input(kind: Kind) -> None:
    """The engine gives an input's memory to others when nothing reads it any more, but not while a view of it lives."""
    assert any(places(e.inputs) & places([e.result]) for e in examples()[kind.name]) == kind.view


@every_kind
def test_a_reshape_is_what_keeps_the_order_of_its_numbers(kind: Kind) -> None:
    """C code lets such a node give the memory of its input another name."""

    def keeps(e: Example) -> bool:
        if not all(isinstance(value, Tensor) for value in (*e.inputs, e.result)) or len(e.inputs) > 1:
            return False
        flat = e.inputs[0].contiguous().flatten()
        return flat.dtype == e.result.dtype and torch.equal(flat, e.step(e.inputs[0].contiguous()).flatten())

    assert all(map(keeps, examples()[kind.name])) == kind.reshapes


@every_kind
def test_low_bit_is_what_reads_or_writes_bits(kind: Kind) -> None:
    for e in examples()[kind.name]:
        assert any(form.type in LOW_BIT_TYPES for form in (*e.reads, e.form)) == kind.low_bit


@every_kind
def test_the_shape_rule_tells_the_shape(kind: Kind) -> None:
    for e in examples()[kind.name]:
        if e.form.type == "real" and e.form.samples_first:
            assert tuple(e.result.shape) == (SAMPLES, *e.form.shape[1:])


MONOTONE = pytest.mark.parametrize("kind", [kind for kind in ALL if kind.monotone], ids=lambda kind: kind.name)


@MONOTONE
def test_a_monotone_kind_rises_or_falls_as_it_says(kind: Kind) -> None:
    assert kind.monotone is not None
    for e in examples()[kind.name]:
        shape = e.inputs[0].shape[1:]
        x = (3 * torch.randn(100, *shape, generator=torch.Generator().manual_seed(0))).sort(0).values
        rise = e.step(x).diff(dim=0)
        falls = kind.monotone(e.tensors)
        falls = torch.zeros(shape[0], dtype=torch.bool) if falls is None else falls
        signs = torch.where(falls, -1.0, 1.0).view(-1, *[1] * (len(shape) - 1))
        assert bool((rise * signs >= 0).all())


@MONOTONE
def test_a_monotone_kind_can_be_split_along_its_channels(kind: Kind) -> None:
    for e in examples()[kind.name]:
        x = e.inputs[0]
        middle = x.shape[1] // 2
        for part in (slice(None, middle), slice(middle, None)):
            tensors = {role: tensor[part] for role, tensor in e.tensors.items()}
            own = kind.build(e.node, tensors, CPU)(x[:, part]) if x[:, part].shape[1] else x[:, part]
            assert torch.equal(own, e.result[:, part])


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind.finite], ids=lambda kind: kind.name)
@pytest.mark.parametrize("size", [0.0, 1e-40, 1.0, 1e6])
def test_a_finite_kind_makes_no_nan(kind: Kind, size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for e in examples()[kind.name]:
        result = e.step(*(size * torch.randn(x.shape, generator=generator) for x in e.inputs))
        assert not bool(result.isnan().any())


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind.clamp], ids=lambda kind: kind.name)
def test_a_clamp_has_the_limits_that_it_says(kind: Kind) -> None:
    assert kind.clamp is not None
    x = 8 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    for e in examples()[kind.name]:
        assert torch.equal(e.step(x), x.clamp(*kind.clamp(e.node)))


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind.product], ids=lambda kind: kind.name)
def test_a_product_computes_in_bfloat16_and_is_linear(kind: Kind) -> None:
    for e in examples()[kind.name]:
        step = kind.build(e.node, {role: tensor.bfloat16() for role, tensor in e.tensors.items()}, CPU)
        assert step(e.inputs[0].bfloat16()).dtype == torch.bfloat16
        wide = kind.build(e.node, {role: tensor.double() for role, tensor in e.tensors.items()}, CPU)
        x = e.inputs[0].double()
        assert torch.allclose(wide(2 * x) - wide(x), wide(x) - wide(0 * x))
