# SPDX-License-Identifier: Apache-2.0
"""From a traced graph to a program: each call becomes nodes. The tables are `lower_modules` and `lower_functions`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from bittern.deploy.in_place import label
from bittern.deploy.kinds import PackError
from bittern.deploy.program import Attr, Node, Program, tensor_name
from bittern.deploy.unseen import describe_failure, refuse


class Builder:
    """Collects nodes and tensors while a graph is lowered."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self._next = 1  # value 0 is the input

    def add(self, kind: str, name: str, inputs: Sequence[int], tensors: dict[str, Tensor | None], **attrs: Attr) -> int:
        """Append a node; tensors that are None are left out. Returns the number of its value."""
        taken = {node.name for node in self.nodes}
        calls = 1
        unique = name
        while unique in taken:  # a layer that is called more than once
            calls += 1
            unique = f"{name}#{calls}"
        name = unique
        names = {}
        for role, tensor in tensors.items():
            if tensor is not None:
                names[role] = tensor_name(name, role)
                self.tensors[names[role]] = checked(name, role, tensor)
        value = self._next
        self._next += 1
        self.nodes.append(Node(kind, name, tuple(inputs), value, attrs, names))
        return value


def checked(name: str, role: str, tensor: Tensor) -> Tensor:
    """A copy of a parameter for the file, on the CPU. Raises: PackError for NaN, infinity or a wrong dtype."""
    tensor = tensor.detach().cpu().contiguous().clone()
    if tensor.is_floating_point():
        if tensor.dtype != torch.float32:
            raise PackError(f"pack: {role!r} of layer {name!r} must be float32; got {tensor.dtype}; call model.float()")
        if not bool(tensor.isfinite().all()):
            raise PackError(f"pack: {role!r} of layer {name!r} holds NaN or infinity; train it again or repair it")
    return tensor


Lowering = Callable[[Builder, str, Any, tuple[Any, ...], dict[str, Any]], int]
"""(builder, name, module or function, args with values as `Ref`, kwargs) -> value."""


class Ref(int):
    """Number of a program value, as it stands among the arguments of a call."""


class _Failed:
    """A value that could not be lowered."""


@dataclass
class _Lowerer:
    """Lowers one call after another, and goes on past a call that it cannot lower to name the others."""

    model: nn.Module
    modules: Callable[[nn.Module], Lowering | None]
    functions: Callable[[Any], Lowering | None]
    builder: Builder = field(default_factory=Builder)
    values: dict[fx.Node, Ref | _Failed] = field(default_factory=dict)
    unsupported: list[str] = field(default_factory=list)
    """Calls without a packed form, in words."""
    refused: list[str] = field(default_factory=list)
    """Calls that have one, but not with these arguments."""

    def add(self, node: fx.Node) -> None:
        """Lower one node; a call whose inputs failed is only looked up."""
        if node.op == "placeholder":
            self.values[node] = Ref(0) if not self.values else self._several_inputs(node)
            return
        lowering, name, target = self._found(node)
        args, kwargs = self.value(node.args), self.value(node.kwargs)
        if node.op == "call_module":
            args, kwargs = (*args, *kwargs.values()), {}
        self.values[node] = _Failed()
        if lowering is None:
            self.unsupported.append(name)
        elif not any(isinstance(self.values[n], _Failed) for n in node.all_input_nodes):
            try:
                self.values[node] = Ref(lowering(self.builder, name, target, args, dict(kwargs)))
            except PackError as error:
                self.refused.append(str(error).removeprefix("pack: "))
            except (TypeError, ValueError, LookupError, AttributeError, AssertionError, RuntimeError) as error:
                self.refused.append(f"{label(node)} has no packed form as it is called here: {describe_failure(error)}")

    def value(self, argument: Any) -> Any:
        """An argument of the graph with its values in place of nodes."""
        return fx.node.map_arg(argument, self.values.__getitem__)  # type: ignore[arg-type]

    def _found(self, node: fx.Node) -> tuple[Lowering | None, str, Any]:
        """(lowering, or None; the name of its nodes, or what has none; the layer or function)."""
        if node.op == "call_module":
            module = self.model.get_submodule(str(node.target))
            lowering = self.modules(module)
            named = str(node.target) if lowering else f"layer {node.target!r} ({type(module).__name__})"
            return lowering, named, module
        if node.op == "get_attr":
            return None, f"parameter {node.target!r} (read outside a layer)", None
        lowering = self.functions(node.target)
        called = getattr(node.target, "__name__", str(node.target))
        return lowering, node.name if lowering else f"call {called!r} in {_owner(node)}", node.target

    def _several_inputs(self, node: fx.Node) -> _Failed:
        self.refused.append(f"the model takes several inputs ({node.name!r} is another); wrap it to take one")
        return _Failed()

    def check(self) -> None:
        """Raises: PackError naming all that could not be lowered."""
        named = list(dict.fromkeys(self.unsupported))
        problems = [_unsupported(", ".join(named), "have" if len(named) > 1 else "has")] if named else []
        refuse([*problems, *self.refused], "stand against it")


def lower(
    graph: fx.Graph,
    model: nn.Module,
    input_shape: tuple[int, ...],
    modules: Callable[[nn.Module], Lowering | None],
    functions: Callable[[Any], Lowering | None],
) -> tuple[Program, dict[str, Tensor]]:
    """Lower a traced graph. Raises: PackError naming all calls that have no lowering."""
    lowerer = _Lowerer(model, modules, functions)
    *calls, result = graph.nodes
    for node in calls:
        lowerer.add(node)
    lowerer.check()
    output = lowerer.value(result.args[0])
    if not isinstance(output, Ref):
        raise PackError(f"pack: the model must return one tensor; it returns {type(output).__name__}; wrap it")
    return Program(tuple(lowerer.builder.nodes), input_shape, int(output)), lowerer.builder.tensors


def _owner(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return "the model's own forward"
    path, kind = list(stack.values())[-1]
    return f"module {path!r} ({getattr(kind, '__name__', kind)})"


def _unsupported(what: str, verb: str) -> str:
    return (
        f"{what} {verb} no packed form; use the layers listed in docs/packed_format.md, "
        "or pack the parts around it separately"
    )


def single_input(args: tuple[Any, ...], name: str) -> Ref:
    """The one tensor that a layer is called with. Raises: PackError for any other call."""
    if len(args) != 1 or not isinstance(args[0], Ref):
        raise PackError(f"pack: layer {name!r} must be called with one tensor; got {len(args)} arguments")
    return args[0]
