# SPDX-License-Identifier: Apache-2.0
"""Random sound programs as plain data, of every kind of node, drawn from a seed: what the fuzzer of files starts from.

A node is proposed (`_random_nodes`) with attributes and tensors that suit the values it reads; the format's own checks
say whether it fits, else another is proposed.
"""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import torch

from _random_nodes import MOST_NUMBERS, PROPOSALS, WEIGHTED, Draft, one_real
from bittern.deploy.bit_stream import to_streams
from bittern.deploy.errors import FormatError
from bittern.deploy.few_bits import code_of
from bittern.deploy.form import Form, input_form
from bittern.deploy.kinds.kind import check_node
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.packed import Packed
from bittern.deploy.program import VALUE_TYPES, Input, Node, tensor_name

DIFFERENT = 256
"""Numbers of a tensor, 0 and 1 aside: drawing millions is what would take longest."""

RESULTS = 0.1
"""Share of programs with several results."""

SEVERAL_EVERY = 4
"""One program in so many takes several tensors."""

LARGER = 16
"""Sides of the images of a large program are so many times those of the others."""

DTYPES = {torch.float32: "F32", torch.int32: "I32", torch.uint8: "U8", torch.int8: "I8"}


def draft(seed: int, large: bool = False) -> Draft:
    """The program of a seed; large: of megabytes, to see whether memory is counted rightly."""
    r = random.Random(seed)
    larger = LARGER if large else 1
    rank = r.choice((3, 3, 3, 3, 2, 1, 4))
    shape = [
        r.choice((1, 2, 3, 8, 16, 24, 33, 64, 65)),
        *(larger * r.choice((1, 2, 3, 5, 8, 9)) for _ in range(rank - 1)),
    ]
    d = Draft(r, shape, MOST_NUMBERS * larger**2, forms=[Form((1, *shape))])
    if seed % SEVERAL_EVERY == 1:
        _more_inputs(d)
    wanted, tries = r.randint(1, 9), 0
    while len(d.nodes) < wanted and tries < 200:
        tries += 1
        _try(d, r.choice(WEIGHTED))
    if not (r.random() < RESULTS and _ends_in_results(d)):
        _end(d)
    if seed % SEVERAL_EVERY == 2:
        _open_sizes(d)
    return d


def _end(d: Draft) -> None:
    """Choose one of the values as the result."""
    r = d.r
    while d.forms[d.output].type != "real" or (d.output == 0 and r.random() < 0.9):
        d.output = r.choice([v for v, form in enumerate(d.forms) if _is_answer(form)])
        if not any(map(_is_answer, d.forms[1:])):
            break


def _is_answer(form: Form) -> bool:
    return form.type == "real" and form.samples_first


def _more_inputs(d: Draft) -> None:
    """Let a program take several tensors: images like the first, rows, masks, numbers for all samples."""
    r = d.r
    d.inputs.append(["first", "float32", d.shape, 0])
    for index in range(r.randint(1, 3)):
        shape = list(d.shape) if r.random() < 0.6 else [r.choice((1, 2, 3, 8, 65)) for _ in range(r.randint(0, 3))]
        kind = "float32" if r.random() < 0.8 else r.choice(list(VALUE_TYPES))
        batch = 0 if r.random() < 0.7 else r.choice((None, *range(len(shape) + 1)))
        d.inputs.append([f"other{index}", kind, shape, batch])
        d.forms.append(input_form(Input("", tuple(shape), kind, batch)))
    rest = list(range(1, len(d.inputs)))
    trees = r.choice((rest, [["tuple", *rest]], [["dict", list(map(str, rest)), *rest]], [*rest, ["constant", None]]))
    hows = ("either", "keyword") if r.random() < 0.3 else ("either",)
    d.parameters = [["x", 0, "either"], *([f"more{i}", tree, hows[-1]] for i, tree in enumerate(trees))]


def _open_sizes(d: Draft) -> None:
    """Let a call choose some sizes of the one input: numbers of nodes become expressions of the same value."""
    r = d.r
    chosen = [dim for dim in range(len(d.shape)) if r.random() < (0.7 if dim else 0.2)] or [len(d.shape) - 1]
    shape: list[Any] = list(d.shape)
    for dim in chosen:
        shape[dim], n = f"size{dim}", d.shape[dim]
        d.sizes.append([shape[dim], n, r.choice((1, 1, n)), r.choice((None, None, n, n + 9))])
        if r.random() < 0.3:
            d.conditions.append(
                r.choice((["<=", shape[dim], n + 5], ["or", ["==", shape[dim], n], ["<", n, shape[dim]]]))
            )
    d.inputs, d.parameters = [["x", "float32", shape, 0]], [["x", 0, "either"]]
    for _, _, _, attrs, _ in d.nodes:
        for key, value in attrs.items():
            attrs[key] = _with_expressions(d, value)


def _with_expressions(d: Draft, value: Any) -> Any:
    if isinstance(value, list):
        return [_with_expressions(d, entry) for entry in value]
    if type(value) is not int or d.r.random() < 0.93:
        return value
    name, n, *_ = d.r.choice(d.sizes)
    same = [["+", name, value - n], ["//", ["*", name, value], n], ["min", value, ["+", value, ["%", name, n]]]]
    return {"size": name if value == n else d.r.choice(same)}


def _ends_in_results(d: Draft) -> bool:
    """End a program in several results, if it has values for them."""
    values = [v for v, form in enumerate(d.forms) if form.type == "real"]
    chosen = d.r.choices(values, k=d.r.randint(1, 3))
    names = [f"answer{i}" for i in range(len(chosen))] if d.r.random() < 0.5 else []
    attrs: dict[str, Any] = {"names": names}
    if d.inputs and d.r.random() < 0.5:
        attrs = {"names": [], "structure": ["tuple", 0, ["dict", ["a"], ["list", *range(1, len(chosen))]]]}
    node = Node("results", "results", tuple(chosen), d.next, attrs, {})
    try:
        form = KINDS["results"].shape(node, {}, *(d.forms[v] for v in chosen))
    except FormatError:
        return False
    d.forms.append(form)
    d.output = d.next
    d.nodes.append(["results", "results", chosen, attrs, []])
    return True


def _try(d: Draft, kind: str) -> None:
    proposal = PROPOSALS.get(kind, one_real)(d)
    if proposal is None:
        return
    inputs, attrs, shapes = proposal
    name, number = f"{kind}{len(d.nodes)}", d.next
    rules = KINDS[kind]
    types = dict.fromkeys(shapes, torch.float32) if rules.tensors is None else {**rules.tensors, **rules.optional}
    defaults = {key: rule.default for key, rule in rules.attrs.items() if rule.default is not None}
    node = Node(
        kind,
        name,
        tuple(inputs),
        number,
        {**defaults, **attrs},
        {role: tensor_name(name, role) for role in shapes},
    )
    drawn = {role: _numbers(d.r, types[role], shape, role) for role, shape in shapes.items()}
    if "weight_levels" in attrs or (kind == "decoded" and attrs["high"] - attrs["low"] == 2 * attrs["step"]):
        drawn["weight"] = _spelled(drawn["weight"], shapes["weight"][0])
    if "weight_bits" in attrs:
        drawn["weight"] = _within(drawn["weight"], attrs["weight_bits"])
    tensors = {
        tensor_name(name, role): torch.frombuffer(bytearray(raw), dtype=types[role]).view(shapes[role])
        for role, raw in drawn.items()
    }
    try:
        check_node(rules, node, tensors)
        form = rules.shape(node, node.named(tensors), *(d.forms[v] for v in inputs))
    except FormatError:
        return
    if math.prod(form.shape) > d.most_numbers:
        return
    d.forms.append(form)
    d.nodes.append([kind, name, inputs, attrs, sorted(shapes)])
    for role, shape in shapes.items():
        if role == "weight" and "weight_bits" in attrs:
            streams = to_streams(code_of(attrs["weight_bits"]), tensors[tensor_name(name, role)])
            d.few_bits[tensor_name(name, role)] = [attrs["weight_bits"], list(shape)]
            d.tensors.append((tensor_name(name, role), "U8", tuple(streams.shape), streams.numpy().tobytes()))
        else:
            d.tensors.append((tensor_name(name, role), DTYPES[types[role]], shape, drawn[role]))


def _within(weight: bytes, bits: int) -> bytes:
    """int8 numbers cut to so many bits."""
    half = 1 << (bits - 1)
    return bytes(((code % (2 * half)) - half) % 256 for code in weight)


def _spelled(weight: bytes, planes: int) -> bytes:
    """Planes of 3 or 6 levels, in which the last sign is +1 only where the one before it is."""
    size = len(weight) // planes
    before, last = weight[-2 * size : -size], weight[-size:]
    return weight[:-size] + bytes(a & b for a, b in zip(before, last, strict=True))


def _numbers(r: random.Random, dtype: torch.dtype, shape: tuple[int, ...], role: str) -> bytes:
    count = math.prod(shape)
    if dtype in (torch.uint8, torch.int8):
        return r.randbytes(count)
    if role in ("rows", "columns"):
        return struct.pack(f"<{count}i", *(n for _ in range(count // 2) for n in (r.randrange(2), r.randrange(1024))))
    if dtype == torch.int32:
        within = {"multiplier": range(2**30, 2**31), "shift": range(-12, 2)}.get(
            role.removeprefix("recurrent_"), range(-40, 41)
        )
        return struct.pack(f"<{count}i", *r.choices(within, k=count))
    low = 0.1 if role == "var" else -2.0
    drawn = [r.uniform(low, 2.0) for _ in range(min(count, DIFFERENT))]
    return struct.pack(f"<{count}f", *r.choices(drawn if low > 0 else drawn + [0.0, 1.0] * len(drawn), k=count))


def inputs_for(packed: Packed, batch: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Random numbers for every input."""
    shapes = [given.shape_at(batch) for given in packed.inputs]
    drawn = [2 * torch.randn(shape, generator=generator) for shape in shapes]
    kinds = [VALUE_TYPES[given.type] for given in packed.inputs]
    return [x if kind == torch.float32 else x.abs().to(kind) for x, kind in zip(drawn, kinds, strict=True)]
