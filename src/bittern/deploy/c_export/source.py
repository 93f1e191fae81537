# SPDX-License-Identifier: Apache-2.0
"""What a C file is made of: functions, constants, records; steps ask for them, `text` writes what was asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bittern.deploy.c_export import literals
from bittern.deploy.c_export.plan import WORD_BYTES, Step
from bittern.deploy.errors import refused
from bittern.deploy.form import Form
from bittern.deploy.program import Node


class CFunction(NamedTuple):
    """A C function (or type) and what it needs."""

    name: str
    text: str
    needs: tuple[CFunction, ...] = ()
    headers: tuple[str, ...] = ()


class Constant(NamedTuple):
    """A named constant of the file."""

    declaration: str
    size: int
    """In bytes, a pointer having 4."""
    value: str


Fields = Sequence["int | str | Fields"]
"""Of a record: numbers, names of constants or NULL, records and arrays inside it."""

NULL = "NULL"


class Source:
    """Collects functions and constants; every value is v<number>, every constant n<number of its value>_<role>."""

    def __init__(self, forms: Mapping[int, Form], tensors: Mapping[str, Tensor]) -> None:
        self.forms = forms
        self.tensors = tensors
        self.functions: dict[str, CFunction] = {}
        self.headers = {"stddef.h", "stdint.h"}
        self.constants: dict[str, Constant] = {}
        self._names: dict[tuple[str, str], str] = {}

    def use(self, function: CFunction) -> str:
        """Ask for a function. Returns its name."""
        for needed in function.needs:
            self.use(needed)
        self.functions.setdefault(function.name, function)
        self.headers.update(function.headers)
        return function.name

    def call(self, function: CFunction, *arguments: str | int) -> str:
        """A call of `function`."""
        return f"{self.use(function)}({', '.join(str(a) for a in arguments)});"

    def tensor(self, node: Node, role: str) -> Tensor:
        return self.tensors[node.tensors[role]]

    def floats(self, node: Node, role: str, values: Tensor) -> str:
        """Name of an array of floats. Raises: ExportError for NaN, which has no literal."""
        numbers = values.to(torch.float32).flatten().tolist()
        if any(math.isnan(number) for number in numbers):
            raise refused("to_c", node, f"its {role} has NaN; train it again or repair it")
        texts = [literals.real(number) for number in numbers]
        return self._array("float", node, role, texts)

    def integers(self, node: Node, role: str, values: Sequence[int]) -> str:
        """Name of an array of int32_t."""
        return self._array("int32_t", node, role, [str(value) for value in values])

    def words(self, node: Node, role: str, values: Sequence[int]) -> str:
        """Name of an array of uint32_t."""
        return self._array("uint32_t", node, role, [literals.word(value) for value in values])

    def int8s(self, node: Node, role: str, values: Tensor) -> str:
        """Name of an array of int8_t."""
        return self._array("int8_t", node, role, [str(value) for value in values.flatten().tolist()], 1)

    def uint8s(self, node: Node, role: str, values: Sequence[int]) -> str:
        """Name of an array of uint8_t."""
        return self._array("uint8_t", node, role, [str(value) for value in values], 1)

    def real(self, value: float) -> str:
        """A float literal."""
        text = literals.real(value)
        if "HUGE" in text:
            self.headers.add("math.h")
        return text

    def record(
        self, node: Node, function: CFunction, type_: str, fields: Fields, count: int = 0, role: str = ""
    ) -> str:
        """Address of a constant of a struct type that `function` declares; with a count, of an array of them.

        role: what tells it apart from other records of its node.
        """
        self.use(function)
        name = f"n{node.output}_{role}" if role else f"n{node.output}"
        declaration = f"static const {type_} {name}" + (f"[{count}]" if count else "")
        self.constants[name] = Constant(declaration, WORD_BYTES * _words(fields), _braces(fields))
        return name if count else f"&{name}"

    def _array(self, type_: str, node: Node, role: str, texts: list[str], each: int = WORD_BYTES) -> str:
        """each: bytes of one."""
        if any("HUGE" in text for text in texts):
            self.headers.add("math.h")
        value = f"{{\n{literals.rows(texts)}\n}}"
        name = self._names.setdefault((type_, value), f"n{node.output}_{role}")
        declaration = f"static const {type_} {name}[{len(texts)}]"
        self.constants.setdefault(name, Constant(declaration, each * len(texts), value))
        return name

    @property
    def constant_bytes(self) -> int:
        """Bytes of all constants, where a pointer has 4."""
        return sum(constant.size for constant in self.constants.values())


def value(number: int) -> str:
    """C name of a value."""
    return f"v{number}"


def scratch(step: Step, index: int = 0) -> str:
    """C name of a stretch of memory that only `step` uses."""
    return f"s{step.writes}_{index}"


def _words(fields: Fields) -> int:
    return sum(1 if isinstance(field, (int, str)) else _words(field) for field in fields)


def _braces(fields: Fields) -> str:
    texts = [str(field) if isinstance(field, (int, str)) else _braces(field) for field in fields]
    return f"{{{', '.join(texts)}}}"
