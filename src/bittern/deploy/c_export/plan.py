# SPDX-License-Identifier: Apache-2.0
"""What is computed in which order, and where every value lies: the memory plan of a C file.

A **step** is a node, or several of which only the last result is kept: a low-bit layer and the threshold behind it, or
a real convolution and what follows up to the sign, whose results are the largest values of many networks.
A **storage** is a stretch of one of three arenas, real values (float), bits (uint32_t) and integers (int8_t). Each type
has its own, because C forbids to read through a pointer to one type what another wrote. A storage lives from the step
that writes it to the last one that reads it; storages that live at the same time do not overlap. A step that works
element by element writes over its input where nothing reads that any more; flatten and reshape only rename it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bittern.deploy.arena import Life, placed
from bittern.deploy.errors import refused
from bittern.deploy.form import Form
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.program import Node, Program

WORD_BITS = 32
"""Bits of a word of the C code: what a microcontroller has."""

WORD_BYTES = 4
"""Bytes of a word, a float and an int32_t."""


@dataclass(frozen=True)
class Step:
    """One call in the C code."""

    node: Node
    """Whose result it writes."""
    before: tuple[Node, ...] = ()
    """Nodes that it computes on the way, in their order, without keeping their results."""

    @property
    def reads(self) -> tuple[int, ...]:
        return (*self.before, self.node)[0].inputs

    @property
    def writes(self) -> int:
        return self.node.output


def steps_of(program: Program) -> tuple[Step, ...]:
    """The steps of a program in their order. Raises: ExportError."""
    before = {node.output: _computed_on_the_way(program, node) for node in program.nodes}
    inside = {node.output for nodes in before.values() for node in nodes}
    for node in program.nodes:
        readers = len(program.consumers(node.output))
        if node.kind == "binary" and node.attrs["result"] == "acc" and readers != 1:
            raise refused("to_c", node, f"its accumulators must have one reader; they have {readers}; pack again")
    return tuple(Step(node, before[node.output]) for node in program.nodes if node.output not in inside)


def _computed_on_the_way(program: Program, node: Node) -> tuple[Node, ...]:
    """binary before threshold; conv, affine, hardtanh before encode to one plane, where nothing else reads them."""
    producer = program.producer(node.inputs[0])
    if node.kind == "threshold":
        assert producer is not None
        return (producer,)
    if node.kind != "encode" or node.attrs["planes"] != 1 or node.attrs["dims"] == 0:
        return ()
    chain: list[Node] = []
    for kind in ("hardtanh", "affine", "conv"):
        if producer is not None and producer.kind == kind and program.single_consumer(producer.output) is not None:
            chain.insert(0, producer)
            producer = program.producer(producer.inputs[0])
    return tuple(chain) if chain and chain[0].kind == "conv" else ()


def words_of(bits: int) -> int:
    """Words that hold `bits` bits."""
    return -(-bits // WORD_BITS)


def arena_of(form: Form) -> str:
    """Where values of this type lie."""
    return {"real": "reals", "int8": "bytes"}.get(form.type, "words")


def size_of(form: Form) -> int:
    """Floats, words or bytes that a value takes; an int16 takes a word."""
    elements = math.prod(form.shape)
    if arena_of(form) != "words" or form.type == "int16":
        return elements
    if form.type == "tuple":  # of a recurrent layer of integers: a state of int16, then bytes
        outputs, state = (math.prod(map(int, part.shape[1:])) for part in form.at(0))
        return state + -(-outputs // WORD_BYTES)
    return form.planes * (elements // form.channels) * words_of(form.channels)


@dataclass
class Storage:
    """A stretch of an arena (or the caller's input or output) and the steps, both included, between which it lives."""

    place: str
    """"reals", "words", "bytes", "input" or "output"."""
    size: int
    first: int
    last: int
    offset: int = 0
    """In its arena; of an input, which one."""


@dataclass(frozen=True)
class Plan:
    """Where everything lies."""

    values: Mapping[int, Storage]
    scratch: Mapping[int, tuple[Storage, ...]]
    """By the value that its step writes."""
    reals: int
    """Size of the arena of real values, in floats."""
    words: int
    """Size of the arena of bits, in words."""
    bytes: int
    """Size of the arena of integers."""

    @property
    def arena_bytes(self) -> int:
        return WORD_BYTES * (self.reals + self.words) + self.bytes


Scratch = Mapping[int, Sequence[tuple[str, int]]]
"""By the value that a step writes: (arena, size) of each stretch that only this step uses."""


def plan(
    program: Program,
    steps: Sequence[Step],
    forms: Mapping[int, Form],
    scratch: Scratch,
    in_place: Callable[[Step], Sequence[int]],
) -> Plan:
    """Place every value. `in_place` names the values that a step may overwrite with its result."""
    last = {program.output: len(steps)}
    for index, step in enumerate(steps):
        for value in step.reads:
            last[value] = max(index, last.get(value, -1))
    values = {v: Storage("input", size_of(forms[v]), -1, len(steps), v) for v in range(len(program.inputs))}
    for index, step in enumerate(steps):
        value = step.writes
        storage = _reused(step, index, values, in_place(step))
        if storage is None:
            storage = Storage(arena_of(forms[value]), size_of(forms[value]), index, index)
        storage.last = max(storage.last, last.get(value, index))
        values[value] = storage
    if values[program.output].place in ("reals", "bytes"):
        values[program.output].place = "output"
    local = {
        step.writes: tuple(Storage(place, size, index, index) for place, size in scratch.get(step.writes, ()))
        for index, step in enumerate(steps)
    }
    every = [*values.values(), *(storage for group in local.values() for storage in group)]
    return Plan(values, local, *(_place(every, arena) for arena in ("reals", "words", "bytes")))


def _reused(step: Step, index: int, values: Mapping[int, Storage], candidates: Sequence[int]) -> Storage | None:
    """The storage that the result of a step shares with an input of it, if any."""
    if KINDS[step.node.kind].reshapes:
        return values[step.reads[0]]
    for value in candidates:
        if values[value].last == index and values[value].place == "reals":
            return values[value]
    return None


def _place(storages: Sequence[Storage], arena: str) -> int:
    """Give the storages of one arena their offsets. Returns its size."""
    unique = list({id(storage): storage for storage in storages if storage.place == arena}.values())
    offsets, size = placed([Life(storage.size, storage.first, storage.last) for storage in unique])
    for storage, offset in zip(unique, offsets, strict=True):
        storage.offset = offset
    return size
