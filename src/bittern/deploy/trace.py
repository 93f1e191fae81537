"""From a module to a program: trace the graph, then lower each call to a node.

Tracing is symbolic (torch.fx) with every layer of torch.nn and bittern.nn as a leaf; a forward that branches on data
cannot be traced and ends in an error that says so. Lowering tables live in `lower_modules` and `lower_functions`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from bittern.deploy.kinds import PackError
from bittern.deploy.program import Attr, Node, Program, tensor_name


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


class _LeafTracer(fx.Tracer):
    """Traces down to the layers of torch.nn and bittern.nn."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        home = type(m).__module__
        known = home.startswith(("torch.nn", "bittern.nn"))
        return known and not isinstance(m, (nn.Sequential, nn.ModuleList, nn.ModuleDict))


def trace(model: nn.Module) -> tuple[fx.Graph, nn.Module]:
    """Graph of a copy of `model` in eval mode, and that copy. Raises: PackError when it cannot be traced."""
    frozen = copy.deepcopy(model).eval()
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    if _is_leaf(frozen):
        frozen = nn.Sequential(frozen).eval()
    try:
        graph = _LeafTracer().trace(frozen)
    except Exception as error:
        raise PackError(
            f"pack: {type(model).__name__} cannot be traced symbolically: {error}; "
            "its forward must not branch on values or shapes of tensors"
        ) from error
    return graph, frozen


def _is_leaf(module: nn.Module) -> bool:
    return _LeafTracer().is_leaf_module(module, "")


Lowering = Callable[[Builder, str, Any, tuple[Any, ...], dict[str, Any]], int]
"""(builder, name, module or function, args with values as `Ref`, kwargs) -> value."""


class Ref(int):
    """Number of a program value, as it stands among the arguments of a call."""


def lower(
    graph: fx.Graph,
    model: nn.Module,
    input_shape: tuple[int, ...],
    modules: Callable[[nn.Module], Lowering | None],
    functions: Callable[[Any], Lowering | None],
) -> tuple[Program, dict[str, Tensor]]:
    """Lower a traced graph. Raises: PackError naming the first call that has no lowering."""
    builder = Builder()
    values: dict[fx.Node, Ref] = {}
    output: Ref | None = None
    for node in graph.nodes:
        args = fx.node.map_arg(node.args, lambda n: values[n])
        kwargs = dict(fx.node.map_arg(node.kwargs, lambda n: values[n]))
        if node.op == "placeholder":
            if values:
                raise PackError(
                    f"pack: the model takes several inputs ({node.name!r} is the second); wrap it to take one"
                )
            values[node] = Ref(0)
        elif node.op == "call_module":
            module = model.get_submodule(str(node.target))
            lowering = modules(module)
            if lowering is None:
                raise PackError(_unsupported(f"layer {node.target!r} ({type(module).__name__})"))
            values[node] = Ref(lowering(builder, str(node.target), module, args, kwargs))
        elif node.op in ("call_function", "call_method"):
            lowering = functions(node.target)
            label = getattr(node.target, "__name__", str(node.target))
            where = _owner(node)
            if lowering is None:
                raise PackError(_unsupported(f"call {label!r} in {where}"))
            values[node] = Ref(lowering(builder, node.name, node.target, args, kwargs))
        elif node.op == "get_attr":
            raise PackError(_unsupported(f"parameter {node.target!r}, used outside a layer,"))
        elif node.op == "output":
            output = args[0]
    if not isinstance(output, Ref):
        raise PackError(f"pack: the model must return one tensor; it returns {type(output).__name__}; wrap it")
    return Program(tuple(builder.nodes), input_shape, int(output)), builder.tensors


def _owner(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return "the model's own forward"
    path, kind = list(stack.values())[-1]
    return f"module {path!r} ({getattr(kind, '__name__', kind)})"


def _unsupported(what: str) -> str:
    return (
        f"pack: {what} has no packed form; use the layers listed in docs/packed_format.md, "
        "or pack the parts around it separately"
    )


def single_input(args: tuple[Any, ...], name: str) -> Ref:
    """The one tensor that a layer is called with. Raises: PackError for any other call."""
    if len(args) != 1 or not isinstance(args[0], Ref):
        raise PackError(f"pack: layer {name!r} must be called with one tensor; got {len(args)} arguments")
    return args[0]
