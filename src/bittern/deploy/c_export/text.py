# SPDX-License-Identifier: Apache-2.0
"""The text of a C file: its head, what the steps asked for, and `run`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bittern.deploy.c_export import literals
from bittern.deploy.c_export.literals import comment
from bittern.deploy.c_export.plan import Plan, Step, Storage, arena_of
from bittern.deploy.c_export.source import Source, scratch, value
from bittern.deploy.form import Form

TRACE = """\
/* Hooks: define them before this file to see what happens; `node` is the number in the list above. */
#ifndef BITTERN_TRACE_ACCUMULATOR /* an integer of a low-bit layer [channel][position]; the hook of its node follows */
#define BITTERN_TRACE_ACCUMULATOR(index, accumulator) ((void)0)
#endif
#ifndef BITTERN_TRACE_REALS /* float result of a node */
#define BITTERN_TRACE_REALS(node, reals, count) ((void)0)
#endif
#ifndef BITTERN_TRACE_INTEGERS /* int8_t result of a node */
#define BITTERN_TRACE_INTEGERS(node, integers, count) ((void)0)
#endif
#ifndef BITTERN_TRACE_BITS /* uint32_t result of a node */
#define BITTERN_TRACE_BITS(node, bits, count) ((void)0)
#endif
"""

FAST_MATH = """\
#if defined(__FAST_MATH__)
#error "compile without -ffast-math: the order and the rounding of every operation are part of the network"
#endif
"""

ARENAS = {"reals": ("float", "bt_reals"), "words": ("uint32_t", "bt_words"), "bytes": ("int8_t", "bt_bytes")}
"""C type and name of each arena."""

TYPES = {"real": "float", "int8": "int8_t", "uint8": "uint8_t"}
"""Of inputs and outputs."""

PLURALS = {"real": "floats", "int8": "integers of 8 bits", "uint8": "bytes"}


class Facts(NamedTuple):
    """What the head of a file says."""

    name: str
    title: str
    input_sizes: tuple[int, ...]
    input_names: tuple[str, ...]
    input_types: tuple[str, ...]
    """Keys of `TYPES`."""
    output_size: int
    output_type: str
    constant_bytes: int
    arena_bytes: int
    ends: tuple[tuple[str, float, int], ...] = ()
    """("input" or "output", scale, zero) of integers of which the model says what they stand for."""


class Part(NamedTuple):
    """A step and its calls."""

    step: Step
    calls: str


def file_text(facts: Facts, source: Source, parts: Sequence[Part], plan: Plan, output: int) -> str:
    """The whole file."""
    blocks = [
        _head(facts, source, parts),
        _declarations(facts),
        "\n".join(f"#include <{header}>" for header in sorted(source.headers)) + "\n",
        FAST_MATH,
        TRACE,
        *(function.text for function in source.functions.values()),
        *(f"{constant.declaration} = {constant.value};\n" for constant in source.constants.values()),
        *_arenas(plan),
        _run(facts, source, parts, plan, output),
    ]
    return "\n".join(blocks)


def describe(form: Form) -> str:
    """Type and shape of a value, without the batch."""
    planes = f"{form.planes} x " if form.planes > 1 else ""
    return f"{planes}{form.type} [{', '.join(str(n) for n in form.shape[1:])}]"


def _node_line(source: Source, step: Step) -> str:
    node = step.node
    before = "".join(f"{other.name}: {other.kind}, " for other in step.before)
    return comment(f"{node.output} {before}{node.name}: {node.kind} -> {describe(source.forms[node.output])}")


def _head(facts: Facts, source: Source, parts: Sequence[Part]) -> str:
    nodes = "\n".join(f"     {_node_line(source, part.step)}" for part in parts)
    return f"""\
/* {comment(facts.title)}: a packed low-bit network in C99, written by bittern.deploy.to_c.

{_inputs(facts, source)}
   output  {facts.output_size} {PLURALS[facts.output_type]}
   flash   {facts.constant_bytes} bytes of constants (a pointer counted as 4), and the code
   RAM     {facts.arena_bytes} bytes of arena, static: {facts.name}_run must not run twice at a time

   Nodes:
{nodes} */
"""


def input_name(number: int, count: int) -> str:
    """How C calls an input."""
    return "input" if count == 1 else f"input_{number}"


def signature(name: str, inputs: Sequence[str], output: str) -> str:
    """The function of a file, from the types of its inputs and of its output."""
    count = len(inputs)
    arguments = [f"const {TYPES[type_]} *{input_name(number, count)}" for number, type_ in enumerate(inputs)]
    return f"void {name}_run({', '.join([*arguments, f'{TYPES[output]} *output'])})"


def _inputs(facts: Facts, source: Source) -> str:
    """A line for each input."""
    count = len(facts.input_sizes)
    lines = []
    for number, (size, name, type_) in enumerate(
        zip(facts.input_sizes, facts.input_names, facts.input_types, strict=True)
    ):
        own = f" ({comment(name)})" if count > 1 else ""
        what = f"{size} {PLURALS[type_]}, one sample{own}: {describe(source.forms[number])}, the last dimension fastest"
        lines.append(f"   {input_name(number, count)}   {what}")
    return "\n".join(lines)


def _declarations(facts: Facts) -> str:
    upper, count = facts.name.upper(), len(facts.input_sizes)
    names = [input_name(number, count) for number in range(count)]
    sizes = [f"#define {upper}_{name.upper()}_SIZE {size}" for name, size in zip(names, facts.input_sizes, strict=True)]
    given = ", ".join(f"{name} [{upper}_{name.upper()}_SIZE]" for name in names)
    none = "the two" if count == 1 else "inputs and output"
    types = ["#include <stdint.h>", ""] if {"int8", "uint8"} & {*facts.input_types, facts.output_type} else []
    return "\n".join(
        [
            *types,
            *sizes,
            f"#define {upper}_OUTPUT_SIZE {facts.output_size}",
            *(line for end in facts.ends for line in _end_lines(upper, *end)),
            "",
            f"/* {given} -> output [{upper}_OUTPUT_SIZE]; {none} must not overlap. */",
            f"{signature(facts.name, facts.input_types, facts.output_type)};\n",
        ]
    )


def _end_lines(upper: str, side: str, scale: float, zero: int) -> tuple[str, str]:
    """What integers stand for: real = scale * (integer - zero)."""
    name = f"{upper}_{side.upper()}"
    return f"#define {name}_SCALE {literals.real(scale)}", f"#define {name}_ZERO ({zero})"


def _arenas(plan: Plan) -> list[str]:
    sizes = {"reals": plan.reals, "words": plan.words, "bytes": plan.bytes}
    lines = [f"static {type_} {name}[{sizes[arena]}];" for arena, (type_, name) in ARENAS.items() if sizes[arena]]
    return ["\n".join(lines) + "\n"] if lines else []


def _run(facts: Facts, source: Source, parts: Sequence[Part], plan: Plan, output: int) -> str:
    used = {v for part in parts for v in (*part.step.reads, part.step.writes)}
    count = len(facts.input_sizes)
    lines = [_pointer(value(v), plan.values[v], facts) for v in sorted(used)]
    for part in parts:
        memory = plan.scratch[part.step.writes]
        lines += [_pointer(scratch(part.step, i), storage, facts) for i, storage in enumerate(memory)]
    read = {plan.values[v].offset for v in (*used, output) if plan.values[v].place == "input"}
    lines += [f"(void){input_name(number, count)};" for number in range(count) if number not in read]
    for part in parts:
        lines += [
            "",
            f"/* {_node_line(source, part.step)} */",
            *part.calls.splitlines(),
            _trace(part.step, plan, source),
        ]
    if plan.values[output].place == "input":  # no step writes it
        given = input_name(plan.values[output].offset, count)
        lines += ["", f"memcpy(output, {given}, {facts.output_size} * sizeof *output);"]
    body = "\n".join(f"    {line}".rstrip() for line in lines)
    return f"{signature(facts.name, facts.input_types, facts.output_type)}\n{{\n{body}\n}}\n"


def _pointer(name: str, storage: Storage, facts: Facts) -> str:
    if storage.place == "input":
        given, type_ = input_name(storage.offset, len(facts.input_sizes)), TYPES[facts.input_types[storage.offset]]
        return f"const {type_} *const {name} = {given};"
    if storage.place == "output":
        return f"{TYPES[facts.output_type]} *const {name} = output;"
    type_, arena = ARENAS[storage.place]
    return f"{type_} *const {name} = {arena} + {storage.offset};"


HOOKS = {"reals": "BITTERN_TRACE_REALS", "words": "BITTERN_TRACE_BITS", "bytes": "BITTERN_TRACE_INTEGERS"}
"""By the arena of a value."""


def _trace(step: Step, plan: Plan, source: Source) -> str:
    hook = HOOKS[arena_of(source.forms[step.writes])]
    return f"{hook}({step.writes}, {value(step.writes)}, {plan.values[step.writes].size});"
