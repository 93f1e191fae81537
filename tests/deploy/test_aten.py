# SPDX-License-Identifier: Apache-2.0
"""Operators of torch as nodes: the list holds what it promises, arguments are checked, files may be hostile."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from _together import run_all
from bittern.deploy import FormatError, PackError, pack
from bittern.deploy.format import Content, decode, encode
from bittern.deploy.kinds.aten_call import check as check_arguments
from bittern.deploy.kinds.aten_call import overload_of
from bittern.deploy.kinds.aten_operators import ALLOWED
from bittern.deploy.packed import from_bytes
from bittern.deploy.program import Node, Program, one_input
from bittern.deploy.validate import check_program

SHAPE = (4, 6)

X = {"input": 0, "order": [0, 1, 2]}


def node(operator: str, arguments: list[Any], inputs: tuple[int, ...] = (0,), **tensors: str) -> Node:
    return Node("aten", "a", inputs, 1, {"operator": operator, "arguments": arguments}, tensors)


def check(one: Node, **tensors: Tensor) -> None:
    check_program(Program((one,), one_input(SHAPE), 1), tensors)


def test_operators_of_the_list_exist_and_write_into_nothing() -> None:
    run_all({name: partial(_check_operator, name) for name in ALLOWED})


def _check_operator(name: str) -> None:
    overload = overload_of(node(name, []))
    assert not overload._schema.is_mutable
    assert torch.Tag.data_dependent_output not in overload.tags
    assert not any("Generator" in str(argument.type) for argument in overload._schema.arguments)


@pytest.mark.parametrize(
    "name", ["as_strided.default", "from_file.default", "bernoulli.default", "add_.Tensor", "set_.default", "nope", ""]
)
def test_operators_that_are_not_on_it_are_refused(name: str) -> None:
    with pytest.raises(FormatError, match="is not one that a program may hold"):
        check(node(name, [X]))


HOSTILE: dict[str, tuple[str, list[Any]]] = {
    "too many arguments": ("relu.default", [X, 1, 2]),
    "too few": ("linear.default", [X]),
    "another input": ("relu.default", [{"input": 1}]),
    "a negative input": ("relu.default", [{"input": -1}]),
    "a flag for an input": ("relu.default", [{"input": False}]),
    "a tensor that is not there": ("relu.default", [{"tensor": "t0"}]),
    "an unknown object": ("relu.default", [{"code": "1"}]),
    "two objects in one": ("relu.default", [{"dtype": "float32", "device": "own"}]),
    "an order that is none": ("relu.default", [{"input": 0, "order": [0, 0, 1]}]),
    "an order of another rank": ("relu.default", [{"input": 0, "order": [1, 0]}]),
    "a word for a number": ("leaky_relu.default", [X, "much"]),
    "nested too deeply": ("cat.default", [[[[[X]]]], 1]),
    "a long list": ("view.default", [X, [1] * 100]),
    "a huge number": ("view.default", [X, [2**70]]),
    "sizes that do not fit": ("view.default", [X, [{"batch": 1}, 7]]),
    "a size beyond any": ("expand.default", [X, [{"batch": 2**40}, 4, 6]]),
    "too many elements": ("repeat.default", [X, [1, 2**20, 2**20]]),
    "training": ("dropout.default", [X, 0.5, True]),
    "random attention": ("scaled_dot_product_attention.default", [*[X] * 3, None, 0.5]),
    "a type that no program has": ("to.dtype", [X, {"dtype": "complex64"}]),
    "a type by its number": ("to.dtype", [X, 6]),
    "a type by a number that torch reads beyond its table": ("to.dtype", [X, 2**31 - 1]),
    "a memory format by its number": ("contiguous.default", [X, 2]),
    "another device": ("zeros.default", [[{"batch": 1}, 4], None, None, {"device": "cuda"}]),
    "a device by its name": ("zeros.default", [[{"batch": 1}, 4], None, None, "meta"]),
    "no device": ("zeros.default", [[{"batch": 1}, 4]]),
    "pinned memory": ("new_zeros.default", [X, [{"batch": 1}, 4], None, None, None, True]),
    "a result that is no float": ("argmax.default", [X, 1]),
    "a result without a batch": ("sum.default", [X]),
    "a batch that is lost": ("sum.dim_IntList", [X, [0]]),
    "several results": ("topk.default", [X, 2]),
    "a shape of data": ("index.Tensor", [X, [X]]),
    "a layout that is the engine's choice": ("sum.dim_IntList", [{"input": 0}, [1]]),
    "such a one within a list": ("cat.default", [[X, {"input": 0}], 1]),
    "text for a list": ("view.default", [X, "4"]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_arguments_end_in_a_format_error(name: str) -> None:
    operator, arguments = HOSTILE[name]
    with pytest.raises(FormatError):
        check(node(operator, arguments))


def _numbered() -> list[tuple[str, int, str]]:
    """Arguments of operators that a program may hold for which torch takes any number: (operator, place, type)."""
    found = []
    for name in sorted(ALLOWED):
        for place, rule in enumerate(overload_of(node(name, []))._schema.arguments):
            kind = str(rule.real_type)
            if kind != str(rule.type):
                found.append((name, place, kind))
    return found


def test_types_and_formats_are_named_whatever_the_operator() -> None:
    """torch reads types behind its table, and ends the process, on meta tensors too."""
    numbered = _numbered()
    assert {kind.removeprefix("Optional[").removesuffix("]") for *_, kind in numbered} == {
        "ScalarType",
        "MemoryFormat",
        "Layout",
    }
    for name, place, kind in numbered:
        for number in (1, 6, 2**31 - 1, -1):
            arguments = [None] * place + [number]
            words = "must be off" if "Layout" in kind else "must be null or"
            with pytest.raises(FormatError, match=words):
                check_arguments(node(name, arguments), {})


def test_a_number_that_the_schema_has_as_default_is_taken() -> None:
    """Files hold it, for torch.export leaves such arguments out: contiguous has the memory format 0."""
    check_arguments(node("contiguous.default", [X, 0]), {})
    with pytest.raises(FormatError, match="must be null or"):
        check_arguments(node("contiguous.default", [X, False]), {})


@pytest.mark.parametrize("modes", [[3, 0], [-1, 0], [0, 3], [0, True], [None, 0]])
def test_ways_to_sample_that_do_not_exist_are_refused(modes: list[Any]) -> None:
    images, grid = {"input": 0, "order": [0, 1, 2, 3]}, {"tensor": "t0"}
    check_arguments(node("grid_sampler.default", [images, grid, 2, 1, False], t0="t0"), {"t0": torch.zeros(1, 2, 2, 2)})
    with pytest.raises(FormatError, match="must be a whole number from 0 to 2"):
        check_arguments(node("grid_sampler.default", [images, grid, *modes, False]), {"t0": torch.zeros(1, 2, 2, 2)})


def test_running_statistics_cannot_be_trained_by_a_file() -> None:
    names = {f"t{i}": f"a.t{i}" for i in range(4)}
    arguments = [X, *({"tensor": role} for role in names), True, 0.1, 1e-5, False]
    with pytest.raises(FormatError, match="'training' must be off"):
        check(node("batch_norm.default", arguments, **names), **{name: torch.ones(4) for name in names.values()})


def test_tensors_that_no_argument_names_are_refused() -> None:
    with pytest.raises(FormatError, match="are no arguments"):
        check(node("relu.default", [X], t0="a.t0"), **{"a.t0": torch.ones(1)})


def test_what_torch_refuses_only_when_it_computes_names_its_node() -> None:
    arguments = [X, 1, {"tensor": "t0"}]
    one = node("index_select.default", arguments, t0="a.t0")
    packed = from_bytes(encode(Content(Program((one,), one_input(SHAPE), 1), {"a.t0": torch.tensor([9])}, {})))
    with pytest.raises(ValueError, match=r"node 'a' .index_select.default.: torch refuses its arguments"):
        packed(torch.zeros(2, *SHAPE))


@pytest.mark.parametrize("operator", ["conv2d.default", "convolution.default"])
def test_convolutions_that_crash_some_libraries_are_refused(operator: str) -> None:
    """With channels last, oneDNN reads a null pointer for windows in the padding alone (AVX-512, torch 2.13)."""
    weight = {"a.t0": torch.ones(8, 16, 1, 1)}
    tail: list[Any] = [1] if operator == "conv2d.default" else [False, [0, 0], 1]
    for order, padding, sound in (([0, 2, 3, 1], 3, False), ([0, 1, 2, 3], 3, True), ([0, 2, 3, 1], 0, True)):
        x = {"input": 0, "order": order}
        arguments = [x, {"tensor": "t0"}, None, [3, 2], [padding], [2, 2], *tail]
        program = Program((node(operator, arguments, t0="a.t0"),), one_input((16, 9, 5)), 1)
        if sound:
            check_program(program, weight)
        else:
            with pytest.raises(FormatError, match="a window may lie in the padding alone"):
                check_program(program, weight)


def test_a_part_of_what_has_no_parts_is_refused() -> None:
    part = Node("part", "b", (0,), 1, {"index": 0})
    with pytest.raises(FormatError, match="several"):
        check(part)
    two = (node("topk.default", [X, 2]), Node("part", "b", (1,), 2, {"index": 2}))
    with pytest.raises(FormatError, match="there are 2 results"):
        check_program(Program(two, one_input(SHAPE), 2), {})


class Mixed(nn.Module):
    """Integers, flags, infinity and sizes among its constants."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(6, 6).triu(1).bool())
        self.register_buffer("places", torch.arange(6).flip(0))
        self.register_buffer("added", torch.full((6, 6), float("-inf")).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        scores = (x.transpose(1, 2) @ x).masked_fill(self.mask, -1e9) + self.added
        start = x.new_zeros(x.size(0), 1, 6)
        return torch.cat([start, scores.softmax(-1)], 1).index_select(2, self.places)


def test_constants_of_all_types_survive_the_file() -> None:
    packed = pack(Mixed(), torch.zeros(1, *SHAPE))
    data = packed.to_bytes()
    assert data == from_bytes(data).to_bytes()
    for samples in (1, 4):
        x = torch.randn(samples, *SHAPE)
        assert torch.equal(from_bytes(data)(x), Mixed()(x))
    assert from_bytes(data)(torch.empty(0, *SHAPE)).shape == (0, 7, 6)


def test_nan_among_constants_is_refused_in_file_and_model() -> None:
    model = Mixed()
    model.added[0, 0] = float("nan")  # type: ignore[index]
    with pytest.raises(PackError, match="NaN"):
        pack(model, torch.zeros(1, *SHAPE))
    content = decode(pack(Mixed(), torch.zeros(1, *SHAPE)).to_bytes())
    tensors = {name: t.clone() for name, t in content.tensors.items()}
    for tensor in tensors.values():
        if tensor.is_floating_point():
            tensor[0, 0] = float("nan")
    with pytest.raises(FormatError, match="NaN"):
        decode(encode(Content(content.program, tensors, content.info)))


def test_every_damage_to_arguments_is_refused_or_runs() -> None:
    """Each argument of a real program replaced by other data in turn: what loads can run."""
    content = decode(pack(Mixed(), torch.zeros(1, *SHAPE)).to_bytes())
    others: list[Any] = [
        None,
        True,
        -1,
        2**31,
        1.5,
        "x",
        [],
        {},
        {"input": 0},
        {"tensor": "t0"},
        {"batch": 3},
        [[1], 2],
    ]
    ran = 0
    for index, one in enumerate(content.program.nodes):
        given = json.loads(json.dumps(one.attrs.get("arguments", [])))
        for place in range(len(given)):
            for other in others:
                changed = one.with_attrs(arguments=[*given[:place], other, *given[place + 1 :]])
                nodes = (*content.program.nodes[:index], changed, *content.program.nodes[index + 1 :])
                program = replace(content.program, nodes=nodes)
                try:
                    found = from_bytes(encode(Content(program, content.tensors, {})))
                except FormatError:
                    continue
                found(torch.zeros(2, *SHAPE))
                ran += 1
    assert ran > 0


class Alive(TorchDispatchMode):
    """Counts the tensors that are alive among all that operators made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[weakref.ref[Tensor]] = []
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.made.append(weakref.ref(result))
        self.most = max(self.most, sum(made() is not None for made in self.made))
        return result


def test_values_are_released_when_nothing_reads_them_any_more() -> None:
    model = nn.Sequential(*(nn.Mish() for _ in range(30)))
    packed, x = pack(model, torch.zeros(1, *SHAPE)), torch.randn(2, *SHAPE)
    expected = model(x)
    packed(x)
    with Alive() as alive:
        found = packed(x)
    assert torch.equal(found, expected)
    assert alive.most <= 4
