# SPDX-License-Identifier: Apache-2.0
"""From a graph of ATen operators to a program: what Bittern runs itself is recognised, the rest stays an operator.

An operator whose inputs do not depend on the model's input is computed here, once, by torch itself: masks, positions,
weights behind a parametrization.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from bittern.deploy.errors import PackError
from bittern.deploy.front import native
from bittern.deploy.front.answer import no_tensor
from bittern.deploy.front.arguments import Arguments, BatchSource
from bittern.deploy.front.builder import Builder, Ref
from bittern.deploy.front.call import Call, bound, meta_of
from bittern.deploy.front.conditions import ASSERTIONS, Conditions
from bittern.deploy.front.dynamic import Dynamic
from bittern.deploy.front.example import Example
from bittern.deploy.front.export import Exported, export
from bittern.deploy.front.joined import Joined
from bittern.deploy.front.low_bit import call_name, lower_layer
from bittern.deploy.front.nodes import draws, in_words, is_foreign, is_operator
from bittern.deploy.front.recurrent import RECURRENT, recurrent_call
from bittern.deploy.front.same import passed_on
from bittern.deploy.front.sizes import BATCH_SIZE, NoSize, Size, Symbols, size_in_words
from bittern.deploy.front.stand_in import OPERATOR, computed
from bittern.deploy.front.where import place_of
from bittern.deploy.kinds.results import attrs_of
from bittern.deploy.program import OPEN, Input, Program, type_name
from bittern.deploy.size_expression import BATCH
from bittern.deploy.structure import leaves
from bittern.deploy.unseen import describe_failure, refuse
from bittern.nn.linear import BinaryLinear

NOT_FIT = (TypeError, ValueError, LookupError, AttributeError, AssertionError, RuntimeError)
"""What numbers of a call that nobody foresaw may raise."""


SPLITS = ("split.Tensor", "split.sizes", "split_with_sizes.default", "chunk.default", "unbind.int")
"""Operators whose results are slices of what they are given."""

RESHAPE = "reshape.default"

FIRST_ALONE = ("_native_batch_norm_legit_no_training.default",)
"""Operators of which native kinds give the first result, and nothing asks for the others."""


FAILED = object()
"""A value that could not be read."""


class Read(NamedTuple):
    """What a model became."""

    program: Program
    tensors: dict[str, Tensor]
    constant_layers: tuple[str, ...]
    """Low-bit layers that do not depend on the input, and are no part of the program."""


def read(model: nn.Module, example: Example, dynamic: Dynamic) -> Read:
    """The program of a model, and its tensors. dynamic: which dimensions besides the batch it leaves open.

    Raises: PackError naming everything that stands against it, with its place in the user's code.
    """
    exported = export(model, example, dynamic)
    reader = _Reader(exported)
    for node in exported.graph.nodes:
        reader.add(node)
    refuse(reader.problems(), "stand against it")
    result = reader.result()
    unread, inputs = reader.joined.unread(result), _inputs(example, exported, dynamic)
    nodes = tuple(node for node in reader.builder.nodes if node.output not in unread)
    program = Program(nodes, inputs, result, example.parameters, exported.sizes, tuple(reader.conditions.found))
    return Read(program, reader.builder.tensors, tuple(reader.constant_layers))


def _inputs(example: Example, exported: Exported, dynamic: Dynamic) -> tuple[Input, ...]:
    """The inputs of a program: what the example says without its batch, and without the sizes that have a name."""

    def given(name: str, x: Tensor, batch: int | None, names: Mapping[int, str]) -> Input:
        own = [dim for dim in range(x.ndim) if dim != batch]
        named = tuple((place, names[dim]) for place, dim in enumerate(own) if dim in names)
        shape = tuple(OPEN if dim in names else x.shape[dim] for dim in own)
        return Input(name, shape, type_name(x.dtype), batch, named)

    return tuple(map(given, example.names, example.tensors, exported.batch, dynamic.dims))


class _Reader:
    """Reads one node after another, and goes on past one that it cannot read to name the others."""

    def __init__(self, exported: Exported) -> None:
        self.exported = exported
        self.builder = Builder(len(exported.inputs))
        self.values: dict[fx.Node, Any] = {}
        self.batch = BatchSource.of(exported.batch)
        """The first input that has the batch, and where."""
        self.symbols = Symbols(exported.symbols)
        self.conditions = Conditions(self.symbols, exported.sizes)
        self.metas: dict[Ref, Any] = {}
        """What torch.export says of each value of the program."""
        self.by_torch: set[Ref] = set()
        """Values that operators of torch write."""
        self.unknown: dict[str, None] = {}
        """Operators that are not on the list, with where they are called."""
        self.refused: list[str] = []
        """Calls that stand on it, but cannot be packed as they are called."""
        self.constant_layers: list[str] = []
        """Layers that are given numbers which do not depend on the model's input: they are computed here."""
        self.joined = Joined(self.builder, self.symbols, self.metas, self.batch, self._node)
        self._output: tuple[Any, ...] = ()

    def problems(self) -> list[str]:
        names = list(self.unknown)
        verb = "have" if len(names) > 1 else "has"
        advice = f"{verb} no packed form (docs/packed_format.md lists the operators that have one)"
        return [*([f"{', '.join(names)} {advice}"] if names else []), *self.refused]

    def result(self) -> int:
        """The value that the model returns. Raises: PackError for anything but tensors that depend on its input."""
        tree, values = self.exported.answer, self._output
        constant = [name for name, place in leaves(tree) if not isinstance(values[place], Ref)]
        if constant or not values:
            raise no_tensor(constant)
        if isinstance(tree, int):
            try:
                self._check_alone(self.metas[values[0]])
            except NoSize as error:
                raise PackError(f"pack: the result of the model: {error}") from error
            return int(values[0])
        return int(self.builder.add("results", "results", values, {}, **attrs_of(tree)))

    def _check_alone(self, meta: Any) -> None:
        """Raises: PackError for one result that has not one entry a sample; several may be anything."""
        rows = self.symbols.shape_of(meta)[:1]
        if rows and isinstance(rows[0], Size) and rows[0] != BATCH_SIZE:
            raise PackError(
                f"pack: the result must be a real tensor [batch, ...], one entry a sample; the model returns "
                f"{self._sizes(meta)}; return a result of other sizes in a tuple, (y,)"
            )

    def _sizes(self, x: Tensor) -> str:
        return f"[{', '.join(map(size_in_words, self.symbols.shape_of(x)))}]"

    def add(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.values[node] = self._placeholder(node)
        elif node.op == "output":
            self._output = self._result(node.args[0])
        elif node.op != "call_function":
            self.values[node] = FAILED
            self.refused.append(f"{node.op} {node.target!r}{place_of(node)} has no packed form")
        else:
            self.values[node] = self._read(node)

    def _placeholder(self, node: fx.Node) -> Any:
        if node.name in self.exported.tensors:
            return self.exported.tensors[node.name]
        place = self.exported.inputs.get(node.name)
        if place is None:
            return meta_of(node)  # an argument that is no tensor
        self.metas[Ref(place)] = meta_of(node)
        return Ref(place)

    def _result(self, outputs: Any) -> tuple[Any, ...]:
        """The tensors that the model returns."""
        return tuple(self._value(outputs[index]) for index in self.exported.results)

    def _value(self, argument: Any) -> Any:
        """An argument of the graph with its values in place of nodes."""
        return fx.node.map_arg(argument, self.values.__getitem__)

    def _read(self, node: fx.Node) -> Any:
        """The value of a call: a `Ref`, a tensor that is known, a number, a `Size`, or a tuple of these."""
        if any(self.values[n] is FAILED for n in node.all_input_nodes):
            if node.target is not OPERATOR and is_foreign(node):
                self.unknown[in_words(node)] = None
            return FAILED
        try:
            return self._known(node)
        except PackError as error:
            self.refused.append(str(error).removeprefix("pack: ") + place_of(node))
        except NoSize as error:
            self.refused.append(f"call {node.name!r}{place_of(node)}: {error}")
        except NOT_FIT as error:
            self.refused.append(
                f"call {node.name!r} cannot be packed as it is called{place_of(node)}: {describe_failure(error)}"
            )
        return FAILED

    def _known(self, node: fx.Node) -> Any:
        meta = meta_of(node)
        if isinstance(meta, torch.SymInt | torch.SymFloat | torch.SymBool | int | float | bool):
            return self.symbols.size_of(meta)
        args, kwargs = self._value(node.args), self._value(node.kwargs)
        if node.target is operator.getitem:
            return self._part(node, *args)
        if node.target is OPERATOR:
            return self._layer(node, args[1], args[0])
        if node.target is RECURRENT:
            return self._operator(recurrent_call(node, args, self.exported.layers), meta)
        if not is_operator(node):
            self.unknown[in_words(node)] = None
            return FAILED
        call = bound(node, args, kwargs, self.exported.layers)
        if call.operator in ASSERTIONS:
            return self.conditions.of_assertion(call)
        self.conditions.of_squeeze(call, self.metas)
        if passed_on(call, meta):
            return next(iter(call.arguments.values()))
        if not call.sized and not call.refs and not draws(node):
            return node.target(*args, **kwargs)  # type: ignore[operator]
        if is_foreign(node):
            self.unknown[in_words(node)] = None
            return FAILED
        return self._own(call, meta)

    def _own(self, call: Call, meta: Any) -> Any:
        """A call that depends on the input: taken apart, recognised, or left an operator."""
        if (joined := self.joined.called(call, meta)) is not None:
            return joined
        if call.operator in SPLITS and (parts := self._split(call, meta)) is not None:
            return parts
        several = call.operator in FIRST_ALONE
        result = meta[0] if several else meta
        *inputs, out = (self.symbols.rows(x) for x in (*(self.metas[ref] for ref in call.refs), result))
        rows = [x for x in inputs if x is not None]
        if out is not None and len(rows) == len(inputs):
            found = native.recognised(self.builder, call, rows, out)
            if found is not None:
                self.metas[found] = result
                return (found, FAILED, FAILED) if several else found
        return self._operator(call, meta)

    def _operator(self, call: Call, meta: Any) -> Ref:
        """A node of the kind `aten`."""
        return self._node(call.name, call.operator, list(call.arguments.values()), meta)

    def _node(self, name: str, operator: str, values: list[Any], meta: Any) -> Ref:
        arguments = Arguments(self.metas, self.by_torch, self.batch)
        for value in values:
            arguments.add(value)
        written = self.builder.add(
            "aten", name, arguments.inputs, arguments.tensors, operator=operator, arguments=arguments.data
        )
        self.metas[written] = meta
        self.by_torch.add(written)
        return written

    def _part(self, node: fx.Node, values: Any, index: int) -> Any:
        """One of several results."""
        if not isinstance(values, Ref):
            return values[index]
        value = self.builder.add("part", node.name, (values,), {}, index=index)
        self.metas[value] = meta_of(node)
        self.by_torch.add(value)
        return value

    def _split(self, call: Call, metas: Any) -> tuple[Any, ...] | None:
        """The parts of a split, a slice each; None where their sizes are unknown."""
        source, dim = call["self"], int(call["dim"]) % self.metas[call["self"]].ndim
        sizes = [self.symbols.shape_of(part)[dim] for part in metas] if call.operator != "unbind.int" else []
        if not all(isinstance(size, int) for size in (self.symbols.shape_of(self.metas[source])[dim], *sizes)):
            return None
        parts: list[Any] = []
        start = 0
        for meta in metas:
            if call.operator == "unbind.int":
                part = call.like("select.int", {"self": source, "dim": dim, "index": len(parts)}, len(parts))
            else:
                stop = start + sizes[len(parts)]
                part = call.like(
                    "slice.Tensor", {"self": source, "dim": dim, "start": start, "end": stop, "step": 1}, len(parts)
                )
                start = stop
            parts.append(self._own(part, meta))
        return tuple(parts)

    def _layer(self, node: fx.Node, name: str, x: Any) -> Any:
        """A layer that is packed. Rows of a linear layer may lie in any dimensions: a program has the samples first."""
        layer, meta = self.exported.layers.get_submodule(name), meta_of(node)
        if not isinstance(x, Ref):
            self.constant_layers.append(name)
            return computed(layer, x)
        source = self.metas[x]
        if self.symbols.rows(source) is not None:
            value = lower_layer(self.builder, name, layer, x)
            self.metas[value] = meta
            return value
        if self.joined.count(source) and (not isinstance(layer, BinaryLinear) or self.joined.known(x)):
            called = call_name(self.builder, name, layer)
            return self.joined.through_layer(
                x, called, meta, lambda own, part: lower_layer(self.builder, own, layer, part)
            )
        if not any(isinstance(size, Size) and BATCH in size.names for size in self.symbols.shape_of(source)):
            raise PackError(
                f"pack: layer {name!r} is called on {list(source.shape)}, which has no batch; expand it to the "
                "samples, as in t.expand(len(x), -1), or leave the layer real"
            )
        if not isinstance(layer, BinaryLinear) or source.dtype != torch.float32:
            raise PackError(
                f"pack: layer {name!r} must be called with float32 [batch, ...], one entry a sample; got "
                f"{source.dtype} {self._sizes(source)}; call it on each of several batches by itself, as in "
                "torch.cat([layer(a), layer(b)])"
            )
        rows = self._node(f"{name}.rows", RESHAPE, [x, [BATCH_SIZE, -1, layer.in_features]], None)
        value = lower_layer(self.builder, name, layer, rows)
        self.metas[value] = torch.empty(2, 2, 2)  # whatever its sizes, its three dimensions lie in order
        return self._node(f"{name}.reshaped", RESHAPE, [value, list(self.symbols.shape_of(meta))], meta)
