# SPDX-License-Identifier: Apache-2.0
"""From a module to a graph of ATen operators, by torch.export.

torch itself resolves what a forward does: keyword arguments, functions that stand for layers, hooks, parametrizations,
in-place operations and views. What depends on values cannot be exported, and ends in an error that says where.
"""

from __future__ import annotations

import re
import threading
import traceback
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind

from bittern.deploy.errors import PackError
from bittern.deploy.front.in_place import is_functional, rename_plain_writes
from bittern.deploy.front.stand_in import put_in, remove_from
from bittern.deploy.unseen import check_eval, check_seen, cpu_copy, describe_failure, is_leaf

LEAST_BATCH = 2
"""torch.export takes a batch of 0 or 1 for a number of the model's own."""

_EXPORTING = threading.Lock()
"""torch replaces methods of nn.Module for the whole process while it exports, so one thread does at a time."""

USER_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in ')
NOT_THE_USERS = ("/torch/", "/bittern/", "<frozen", "<string>")


class Exported(NamedTuple):
    """What torch.export made of a model."""

    graph: fx.Graph
    layers: nn.Module
    """The copy of the model whose layers the graph names."""
    tensors: Mapping[str, Tensor]
    """Parameters, buffers and constants by the name of their placeholder."""
    results: tuple[int, ...]
    """Which outputs of the graph are the model's own; others say what it wrote into its inputs."""
    names: tuple[str, ...] | None
    """Names of its results; () for a tuple or list, None for one tensor."""


def export(model: nn.Module, example: Tensor) -> Exported:
    """Export a copy of `model` in eval mode on the CPU, for batches of any size.

    Raises: PackError when it cannot be copied or exported, or does what no graph shows (`unseen`).
    """
    check_seen(model)
    layers = _copied(model)
    check_eval(layers)
    put_in(layers)
    program = _exported(layers, type(model).__name__, _batch_of(example))
    results = _results(program, type(model).__name__)
    known: dict[str, Tensor] = {**program.state_dict, **program.constants}
    specs = program.graph_signature.input_specs
    tensors = {spec.arg.name: known[str(spec.target)] for spec in specs if spec.kind is not InputKind.USER_INPUT}
    return Exported(program.graph, layers, tensors, results, _names(program, type(model).__name__))


def _copied(model: nn.Module) -> nn.Module:
    try:
        copy = cpu_copy(model)
    except Exception as error:
        raise PackError(
            f"pack: {type(model).__name__} cannot be copied to the CPU ({describe_failure(error)}); keep what "
            "cannot be copied out of its attributes"
        ) from error
    # a layer by itself has no name; inside a sequence it has
    return (nn.Sequential(copy) if is_leaf(copy) else copy).eval().requires_grad_(False)


def _batch_of(example: Tensor) -> Tensor:
    return example if example.shape[0] >= LEAST_BATCH else torch.cat([example] * LEAST_BATCH)


def _exported(model: nn.Module, name: str, example: Tensor) -> torch.export.ExportedProgram:
    batch = ({0: torch.export.Dim("batch")},)
    try:
        with _EXPORTING, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about how it is written
            program = torch.export.export(model, (example,), dynamic_shapes=batch, strict=False)
            rename_plain_writes(program.graph)
            if not is_functional(program.graph):
                program = program.run_decompositions({})
    except Exception as error:
        _check_example(model, example)
        raise PackError(f"pack: {name} cannot be exported: {_cause(error)}") from error
    return program


def _check_example(model: nn.Module, example: Tensor) -> None:
    """Raises: PackError where the model itself fails on the example: then its export is not at fault."""
    remove_from(model)
    try:
        model(example.clone())
    except Exception as error:
        raise PackError(
            f"pack: the model fails on an input {list(example.shape)}: {describe_failure(error)}{_place(error)}; give "
            "pack an example of what it takes, in batches of any size"
        ) from error


def _results(program: torch.export.ExportedProgram, name: str) -> tuple[int, ...]:
    """Which outputs of the graph are the model's. Raises: PackError for a model that remembers."""
    specs = program.graph_signature.output_specs
    free = (OutputKind.USER_OUTPUT, OutputKind.USER_INPUT_MUTATION)
    written = [str(spec.target) for spec in specs if spec.kind not in free]
    if written:
        raise PackError(
            f"pack: {name} writes into {', '.join(map(repr, written))} in eval mode, and a packed model has no memory; "
            "let it compute them from the input alone when it does not train"
        )
    return tuple(index for index, spec in enumerate(specs) if spec.kind is OutputKind.USER_OUTPUT)


def _names(program: torch.export.ExportedProgram, name: str) -> tuple[str, ...] | None:
    """How a model's results are called. Raises: PackError for results within results."""
    spec = program.call_spec.out_spec
    assert spec is not None
    children = spec.children()
    if not children:
        return None
    keys = getattr(spec.context, "_fields", spec.context)
    plain = all(not child.children() for child in children)
    if plain and spec.type in (tuple, list):
        return ()
    if not plain or not isinstance(keys, (list, tuple)) or len(keys) != len(children):
        raise PackError(
            f"pack: {name} returns {getattr(spec.type, '__name__', spec.type)} with more than tensors in it; wrap it "
            "to return one tensor, or a tuple or dict of tensors"
        )
    return tuple(map(str, keys))


def _cause(error: BaseException) -> str:
    """What stopped the export, and where in the user's code."""
    place = _place(error)
    text = str(error)
    if "Constraints violated" in text or "specialized" in text:
        return (
            "its answer depends on the size of the batch; write x.size(0), x.flatten(1) or -1 where the forward or a "
            f"buffer of it holds the number of samples of the example{place}"
        )
    if "data-dependent" in text or "GuardOnDataDependent" in type(error).__name__:
        said = describe_failure(error)
        return f"its forward branches on values of tensors, which no program does{place}; torch says: {said}"
    return f"{describe_failure(error)}{place}"


def _place(error: BaseException) -> str:
    """at FILE:LINE, of the innermost call in code that is neither torch's nor ours."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not any(part in frame.filename for part in NOT_THE_USERS)]
    return f" (at {own[-1].filename}:{own[-1].lineno})" if own else ""


def place_of(node: fx.Node) -> str:
    """at FILE:LINE, where the forward called this, as far as torch noted it."""
    found = list(USER_FRAME.finditer(str(node.meta.get("stack_trace") or "")))
    own = [m for m in found if not any(part in m["file"] for part in NOT_THE_USERS)]
    return f" (at {own[-1]['file']}:{own[-1]['line']})" if own else ""


def is_operator(node: fx.Node) -> bool:
    return node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)


def meta_of(node: fx.Node) -> Any:
    """The fake tensor, or the number, that torch.export gave a node."""
    return node.meta.get("val")
