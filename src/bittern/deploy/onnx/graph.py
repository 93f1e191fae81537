# SPDX-License-Identifier: Apache-2.0
"""From the parts of a program to an ONNX model, by torch.export and torch.onnx.

The batch and the sizes that a call chooses are named dimensions of its inputs ("batch", "height"). ONNX knows no limits
of such names: the description of the model says them, and its metadata as JSON.
"""

from __future__ import annotations

import json
import traceback
from typing import Any

import torch
from torch import fx
from torch.fx.experimental import _config as shape_config

from bittern.deploy.errors import ExportError
from bittern.deploy.export_arguments import samples_for
from bittern.deploy.front.dynamic import Limits
from bittern.deploy.kinds.results import tree_of
from bittern.deploy.named_sizes import dimension, limits_in_words
from bittern.deploy.onnx.module import OnnxModule, Parts, not_open, written_by
from bittern.deploy.other_packages import quietly
from bittern.deploy.parameters import ONE
from bittern.deploy.program import Program
from bittern.deploy.size_expression import BATCH, in_words
from bittern.deploy.structure import DICT, leaves
from bittern.deploy.unseen import describe_failure

OPSET = 18
SAMPLES = 2
"""Of the export: a batch of 1 would be taken for fixed."""
METADATA = "bittern.sizes"
"""Key of the metadata that says which sizes a model takes."""


def exported(parts: Parts, shown: tuple[int, ...]) -> Any:
    """The ONNX model of a program with split products; behind its results the values `shown`. Raises: ExportError."""
    program = parts.program
    module = OnnxModule(parts, (program.output, *shown)).eval()
    names = [*_result_names(program), *(f"value_{v}" for v in shown)]
    shapes = (_open_dimensions(program),)
    with quietly():
        graph = _traced(module, program, shapes)
        try:
            made: Any = torch.onnx.export(
                graph,
                dynamo=True,
                dynamic_shapes=shapes,
                opset_version=OPSET,
                input_names=input_names(program),
                output_names=names,
                verbose=False,
            )
        except Exception as error:
            raise _unwritten(program, error) from error
    model = made.model_proto
    _check_dimensions(model, program)
    if program.sizes:
        _note_limits(model, program)
    return model


def hide(model: Any, last: int) -> None:
    """Take the last outputs away from an ONNX model, and with them what nothing else reads."""
    graph = model.graph
    del graph.output[len(graph.output) - last :]
    read = {output.name for output in graph.output}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        if read.isdisjoint(node.output):
            del graph.node[place]
        else:
            read.update(node.input)


# -- names -------------------------------------------------------------------------------------------------


def input_names(program: Program) -> list[str]:
    """How the inputs are called in the file."""
    return ["input"] if program.parameters == ONE else [given.name for given in program.inputs]


def _result_names(program: Program) -> list[str]:
    last = program.producer(program.output)
    if last is None or last.kind != "results":
        return ["output"]
    tree = tree_of(last)
    own = [name for name, _ in leaves(tree)]
    names = own if isinstance(tree, list) and tree[0] == DICT else [f"output_{name}" for name in own]
    taken = set(input_names(program))
    return [f"{name}_out" if name in taken else name for name in names]


def _dimension_names(program: Program) -> tuple[dict[int, str], ...]:
    """Of each input: which dimensions have a name."""
    return tuple(
        {dimension(given, place): name for place, name in given.named}
        | ({} if given.batch is None else {given.batch: BATCH})
        for given in program.inputs
    )


def _open_dimensions(program: Program) -> tuple[Any, ...]:
    """The same as torch.export is told of it, with limits."""
    dims = {size.name: Limits(size.least, size.most).to_torch(size.name) for size in program.sizes}
    dims[BATCH] = torch.export.Dim(BATCH)
    return tuple({dim: dims[name] for dim, name in own.items()} or None for own in _dimension_names(program))


def _check_dimensions(model: Any, program: Program) -> None:
    """Refuse a model that has a number in place of a name. Raises: ExportError."""
    for value, names in zip(model.graph.input, _dimension_names(program), strict=True):
        sizes = value.type.tensor_type.shape.dim
        for dim, name in names.items():
            if sizes[dim].dim_param != name:
                found = sizes[dim].dim_param or sizes[dim].dim_value
                raise not_open(program, "the model", f"torch.onnx takes {name} of input {value.name!r} for {found}")


def _note_limits(model: Any, program: Program) -> None:
    """Say in the model itself which sizes it takes."""
    conditions = [in_words(condition) for condition in program.conditions]
    sentences = [f"{size.name}: {limits_in_words(size)}" for size in program.sizes]
    model.doc_string = ". ".join([*sentences, *(f"Only sizes with {condition}" for condition in conditions)]) + "."
    limits = {size.name: {"least": size.least, "most": size.most} for size in program.sizes}
    model.metadata_props.add(key=METADATA, value=json.dumps({"sizes": limits, "conditions": conditions}))


# -- torch -------------------------------------------------------------------------------------------------


def _traced(module: OnnxModule, program: Program, shapes: Any) -> torch.export.ExportedProgram:
    """torch.export, first without asking whether sizes are 1: then the answer cannot depend on it.

    Raises: ExportError, that of the first way.
    """
    refusals: list[ExportError] = []
    for oblivious in (True, False) if program.sizes else (True,):
        try:
            with shape_config.patch(backed_size_oblivious=oblivious):  # type: ignore[attr-defined]
                return torch.export.export(
                    module,
                    samples_for(program, SAMPLES),
                    dynamic_shapes=shapes,
                    strict=False,
                    prefer_deferred_runtime_asserts_over_guards=True,
                )
        except ExportError as error:
            refusals.append(error)
        except Exception as error:
            refusals.append(_unwritten(program, error))
            refusals[-1].__cause__ = error
    raise refusals[0]


def _unwritten(program: Program, error: Exception) -> ExportError:
    """What to say where torch fails."""
    node = _node_of(program, error)
    while error.__cause__ is not None:
        error = error.__cause__  # type: ignore[assignment]
    why = describe_failure(error)
    if program.sizes:
        return not_open(program, node or "the model", why)
    return ExportError(f"to_onnx: torch.onnx cannot write this model: {f'{node}: ' if node else ''}{why}")


def _node_of(program: Program, error: BaseException | None) -> str:
    """The node of the program that torch.onnx was about to write, where it can be told."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            call = frame.f_locals.get("node")
            if isinstance(call, fx.Node) and (node := written_by(program, call)):
                return node
        error = error.__cause__
    return ""
