# SPDX-License-Identifier: Apache-2.0
"""Files of models whose sizes a call chooses: what is no such model is refused, when it is read or called."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from _packed_files import program_of, with_program
from bittern.deploy import FormatError, load, pack
from bittern.deploy.named_sizes import other_sizes
from bittern.deploy.packed import from_bytes
from bittern.deploy.program import NamedSize, Program, one_input
from bittern.deploy.size_expression import (
    SizeError,
    along_batch,
    check_condition,
    check_expression,
    holds,
    in_words,
    value_of,
)


class Square(nn.Module):
    """A table as large as the square of the length; views of the batch and the length together."""

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        table = torch.ones(length, length).cumsum(0)
        y = x.reshape(batch, width, length).reshape(batch * length, width) * 2
        return table.sum() + y.view(batch, length, width)[:, : length // 2]


@lru_cache(maxsize=1)
def square() -> bytes:
    with torch.no_grad():
        return pack(Square(), torch.randn(2, 6, 3), dynamic={1: "length"}).to_bytes()


def sizes_in(value: Any) -> Any:
    """Every {"size": ...} of some JSON."""
    if isinstance(value, dict) and "size" in value:
        yield value
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from sizes_in(entry)


def put(expression: Any, **more: Any) -> Callable[[Any], None]:
    """Another expression in place of the first that a node computes without the batch."""

    def change(program: Any) -> None:
        found = next(size for size in sizes_in(program["nodes"]) if "dim" not in size)
        found["size"] = expression
        found.update(more)

    return change


def put_in_shape(expression: Any) -> Callable[[Any], None]:
    """The same in the node that makes a view."""
    return lambda program: next(
        found.update(size=expression) for node in program["nodes"] if node[0] == "reshape" for found in sizes_in(node)
    )


def put_with_batch(expression: Any) -> Callable[[Any], None]:
    def change(program: Any) -> None:
        next(size for size in sizes_in(program["nodes"]) if "dim" in size)["size"] = expression

    return change


def nested(depth: int) -> Any:
    expression: Any = "length"
    for _ in range(depth):
        expression = ["+", expression, 0]
    return expression


def size(*entries: Any) -> Callable[[Any], None]:
    return lambda p: p.update(sizes=[list(entries)])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p: p.update(sizes=[]), "sizes must be a list of 1 to 16"),
        (lambda p: p.update(sizes=p["sizes"] * 17), "sizes must be a list of 1 to 16"),
        (lambda p: p.update(sizes=p["sizes"] * 2), "two sizes have the same name"),
        (lambda p: p.update(sizes="length"), "sizes must be a list of 1 to 16"),
        (lambda p: p.update(sizes=[6]), "size 0 must be a list of name, example, least and most"),
        (lambda p: p["sizes"].append(["width", 6, 1, None]), "no input has the size 'width'"),
        (lambda p: p.pop("sizes"), "exactly"),
        (lambda p: p.pop("conditions"), "exactly"),
        (size("length", 6, 1), "size 0 must be a list of name, example, least and most"),
        (size("batch", 6, 1, None), "size 0 has no name"),
        (size("", 6, 1, None), "size 0 has no name"),
        (size("a b", 6, 1, None), "size 0 has no name"),
        (size(3, 6, 1, None), "size 0 has no name"),
        (size("a" * 1001, 6, 1, None), "size 0 has no name"),
        (size("length", -6, 1, None), "size 'length': .* must be positive, and not too large"),
        (size("length", 0, 1, None), "size 'length': its example and limits .* must be positive"),
        (size("length", 2**25, 1, None), "size 'length': its example and limits .* must be positive"),
        (size("length", True, 1, None), "size 'length': its example and limits .* must be positive"),
        (size("length", None, 1, None), "size 'length': its example and limits .* must be positive"),
        (size("length", 6, None, None), "size 'length': its example and limits .* must be positive"),
        (size("length", 6, 7, None), "size 'length' must be at least 7; got 6"),
        (size("length", 6, 1, 5), r"size 'length' must be 1 \.\.\. 5; got 6"),
        (size("height", 6, 1, None), "input 'x': its sizes"),
        (lambda p: p["inputs"][0].__setitem__(2, ["other", 3]), "input 'x': its sizes"),
        (lambda p: p["inputs"][0].__setitem__(2, ["length", -1]), "input 'x': its sizes"),
        (lambda p: p["inputs"][0].__setitem__(2, ["length", 2**24, 2**24]), "input 'x': its sizes"),
        (lambda p: p["inputs"][0].__setitem__(2, [6, 3]), "no input has the size 'length'"),
        (lambda p: p.update(conditions=3), "conditions must be a list of at most 1000"),
        (lambda p: p.update(conditions=[["==", 1, 1]] * 1001), "conditions must be a list of at most 1000"),
        (lambda p: p.update(conditions=["=="]), "a condition compares two sizes by one of"),
        (lambda p: p.update(conditions=[["==", 1]]), "a condition compares two sizes by one of"),
        (lambda p: p.update(conditions=[[">", 1, 0]]), "a condition compares two sizes by one of"),
        (lambda p: p.update(conditions=[[["=="], 1, 0]]), "a condition compares two sizes by one of"),
        (lambda p: p.update(conditions=[["or"]]), "a condition compares two sizes by one of"),
        (lambda p: p.update(conditions=[["or", ["or", ["==", 1, 1]]]]), "a condition compares two sizes by one of"),
        (lambda p: p.update(conditions=[["==", "length", "width"]]), "names 'width', which is none of length, batch"),
        (lambda p: p.update(conditions=[["==", "length", 7]]), "no sizes but those with length == 7; got length=6"),
        (lambda p: p.update(conditions=[["==", ["//", 1, 0], 7]]), "1 // 0 divides by 0"),
        (put("width"), "names 'width', which is none of length, batch"),
        (put(["-", "length", 1]), "a size is computed by '-', which is none of"),
        (put([]), "a size is a whole number, a name or a list of an operation"),
        (put(["+"]), "a size has 0 terms of '\\+'"),
        (put(["//", 1, 2, 3]), "a size has 3 terms of '//'"),
        (put(["%", "length", ["*", 0, "length"]]), r"length % \(0 \* length\) divides by 0, at length=6"),
        (put(1.5), "a size is a whole number"),
        (put(True), "a size is a whole number"),
        (put(None), "a size is a whole number"),
        (put({"size": 1}), "a size is a whole number"),
        (put(2**31), "a size is a whole number"),
        (put(["*", *["length"] * 64]), "is too large, at length=6"),
        (put(["*", *["length"] * 65]), "a size has 65 terms"),
        (put(["+", *[["+", *["length"] * 8]] * 9]), "a size has more than 64 parts"),
        (put(nested(17)), "a size is nested more than 16 times"),
        (put(nested(400)), "a size is nested more than 16 times"),
        (put(-5), "does not fit its input"),
        (put_in_shape(["*", 1000, "length"]), "does not fit its input"),
        (put_in_shape("batch"), "its entries must be integers"),
        (put_in_shape(0), "does not fit its input"),
        (put("length", dim=0), "which names nothing known"),
        (put("length", more=0), "which names nothing known"),
        (put_with_batch(["*", "batch", "batch"]), "is no multiple of the batch, at length=6"),
        (put_with_batch(["//", "batch", 2]), "is no multiple of the batch, at length=6"),
    ],
)
def test_hostile_files_are_refused(change: Callable[[Any], Any], text: str) -> None:
    with pytest.raises(FormatError, match=text):
        from_bytes(with_program(change, square()))


def test_the_file_without_damage() -> None:
    """It holds what the tests above damage; the same expressions written otherwise are the same program."""
    program = program_of(square())
    assert program["sizes"] == [["length", 6, 1, None]]
    assert program["inputs"] == [["x", "float32", ["length", 3], 0]]
    found = list(sizes_in(program["nodes"]))
    assert {"size": "length"} in found
    assert any(entry.get("dim") == 0 for entry in found)
    x = torch.randn(3, 9, 3)
    for same in (nested(16), ["max", 1, "length"], ["//", ["*", "length", 4], 4]):
        assert torch.equal(from_bytes(with_program(put(same), square()))(x), Square()(x))


def test_expressions_that_do_not_fit_other_sizes_are_refused_in_the_call() -> None:
    """The example is sound, and nothing else can be known when the file is read."""
    packed = from_bytes(with_program(put_in_shape(["//", ["*", 6, 6], "length"]), square()))
    assert packed(torch.randn(2, 6, 3)).shape == (2, 3, 3)
    with pytest.raises(ValueError, match=r"packed model: node .* does not fit its input"):
        packed(torch.randn(2, 5, 3))
    packed = from_bytes(
        with_program(put(["//", 36, ["+", "length", ["*", -1, ["//", "length", 9], "length"]]]), square())
    )
    with pytest.raises(ValueError, match=r"packed model: node .* divides by 0, at length=9"):
        packed(torch.randn(2, 9, 3))


def test_memory_is_counted_for_the_sizes_of_a_call(tmp_path: Any) -> None:
    path = tmp_path / "square.safetensors"
    path.write_bytes(square())
    packed = load(path, memory_limit=2**20)
    x = torch.randn(1, 100, 3)
    assert torch.equal(packed(x), Square()(x))
    with pytest.raises(ValueError, match=r"takes \d+ bytes for one sample, and the limit is 1048576"):
        packed(torch.randn(1, 1000, 3))
    with pytest.raises(ValueError, match="and the limit is 1048576"):
        packed.to("cpu").at(length=1000)
    assert load(path).at(length=1000)(torch.randn(1, 1000, 3)).shape == (1, 500, 3)
    with pytest.raises(FormatError, match="and the limit is 1000;"):
        load(path, memory_limit=1000)


# -- expressions by themselves -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value", "words"),
    [
        (7, 7, "7"),
        ("length", 5, "length"),
        (["+", "length", -1, 2], 6, "length + -1 + 2"),
        (["*", 2, ["//", "length", 2]], 4, "2 * (length // 2)"),
        (["//", ["*", -1, "length"], 2], -3, "(-1 * length) // 2"),
        (["%", ["*", -1, "length"], 3], 1, "(-1 * length) % 3"),
        (["min", "length", 3], 3, "min(length, 3)"),
        (["max", ["+", "length", 1], 3], 6, "max(length + 1, 3)"),
    ],
)
def test_values_and_words(expression: Any, value: int, words: str) -> None:
    check_expression(expression, {"length"})
    assert value_of(expression, {"length": 5}) == value
    assert in_words(expression) == words


def test_along_the_batch() -> None:
    assert along_batch(["*", "batch", ["+", "length", 1]], {"length": 5}) == (6, 0)
    assert along_batch(["+", "batch", "length"], {"length": 5}) == (1, 5)
    assert along_batch(["//", ["*", "batch", "length"], "length"], {"length": 5}) == (1, 0)
    assert along_batch("length", {"length": 5}) == (0, 5)
    for other in (["//", "batch", 2], ["*", "batch", "batch"], ["max", "batch", 100]):
        with pytest.raises(SizeError, match="is no multiple of the batch"):
            along_batch(other, {})


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        (["==", "length", 5], True),
        (["!=", "length", 5], False),
        (["<", "length", 5], False),
        (["<=", "length", 5], True),
        (["or", ["==", "length", 4], ["<", 4, "length"]], True),
        (["or", ["==", "length", 4], ["<", 5, "length"]], False),
        (["<=", "batch", 1000], False),
        (["==", ["%", ["*", "batch", "length"], 5], 0], True),
    ],
)
def test_conditions(condition: Any, met: bool) -> None:
    check_condition(condition, {"length"})
    assert holds(condition, {"length": 5}) is met


def test_other_sizes_fit_and_differ() -> None:
    """The least, and some above the example's; each name its own, within limits and conditions."""

    def others(sizes: tuple[NamedSize, ...], *conditions: Any) -> list[dict[str, int]]:
        program = Program((), one_input((3,)), 0, sizes=sizes, conditions=conditions)
        return other_sizes(program, {one.name: one.example for one in sizes})

    height, width = NamedSize("height", 8), NamedSize("width", 8)
    assert others((height, width)) == [
        {"height": 1, "width": 1},
        {"height": 9, "width": 10},
        {"height": 17, "width": 19},
    ]
    assert others((height,), ["==", "height", ["*", 8, ["//", "height", 8]]]) == [{"height": 16}, {"height": 24}]
    assert others((NamedSize("height", 8, 7, 9),)) == [{"height": 7}, {"height": 9}]
    assert others((height, width), ["==", "height", "width"])[0] == {"height": 1, "width": 1}
    with pytest.raises(ValueError, match="size 'height' can be nothing but 8"):
        others((height,), ["==", "height", 8])
    with pytest.raises(ValueError, match="size 'height' can be nothing but 8"):
        others((NamedSize("height", 8, 8, 8), width))
