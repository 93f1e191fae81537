# SPDX-License-Identifier: Apache-2.0
"""The file of a network of integers, and how ONNX Runtime computes it.

ONNX rounds halves to even and a runtime multiplies by float32 factors, so some integers come out one step apart: the
report counts them. A node that is further off is an error, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bittern.deploy.errors import ExportError
from bittern.deploy.form import Form
from bittern.deploy.kinds.integer import INTEGER_KINDS
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.onnx.integers.graph import Graph
from bittern.deploy.onnx.integers.islands import Island, check_island, parted, write_island
from bittern.deploy.onnx.integers.nodes import NODES
from bittern.deploy.onnx.integers.report import IntegerLayer, IntegerReport
from bittern.deploy.packed import Packed
from bittern.deploy.program import Node, Program
from bittern.deploy.shapes import forms_of

OPSET = 18
MOST_STEPS = {"integer_softmax": 2}
"""By which a node may be off, by kind; others by one. Softmax has exp in fixed point."""
TYPES = {"uint8": 2, "int8": 3, "real": 1, "float32": 1}
"""The numbers of ONNX's types."""
CPU = torch.device("cpu")
INTEGERS = frozenset(kind.name for kind in INTEGER_KINDS)


def has_integers(program: Program) -> bool:
    """Whether a program is a network of integers."""
    return any(node.kind in INTEGERS for node in program.nodes)


def integer_noise(packed: Packed, samples: int) -> tuple[Tensor, ...]:
    """Inputs of every int8 or byte, or real ones that fill the range of the first node."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for given in packed.program.inputs:
        x = torch.randint(-128, 128, (samples, *given.shape), generator=draw, dtype=torch.int8)
        if given.type == "uint8":
            x = x.view(torch.uint8)
        elif given.type != "int8":
            x = x.float() * _step(packed.program)
        found.append(x)
    return tuple(found)


def _step(program: Program) -> float:
    """The scale of the first node that quantizes."""
    scales = [node.attrs["scale"] for node in program.nodes if node.kind == "quantize"]
    return float(scales[0]) if scales else 1.0  # type: ignore[arg-type]


def write_integers(packed: Packed, inputs: Sequence[Tensor], *, verify: bool) -> tuple[IntegerReport | None, bytes]:
    """The report, and the file. Raises: ExportError."""
    program = packed.program
    if any(given.batch != 0 or given.type not in TYPES for given in program.inputs):
        raise ExportError("to_onnx: a network of integers is written with inputs of int8 or float32 [batch, ...]")
    for node in program.nodes:
        if node.kind in INTEGERS and node.kind not in NODES:
            raise ExportError(
                f"to_onnx: node {node.name!r} ({node.kind}) has no operators of ONNX that give its integers; leave its "
                "layer in float (keep= of bittern.quantize), or write it with to_c"
            )
    graph = Graph(packed.tensors, forms_of(program, packed.tensors))
    names = {value: given.name if len(program.inputs) > 1 else "input" for value, given in enumerate(program.inputs)}
    names |= {node.output: f"v{node.output}" for node in program.nodes} | {program.output: "output"}
    parts = parted(program, lambda node: _is_integer(node, graph.forms[node.output]))
    for part in parts:
        if isinstance(part, Island):
            write_island(graph, part, names)
        else:
            NODES[part.kind](graph, part, [names[v] for v in part.inputs], names[part.output])
    data = _model(graph, program, names, ()).SerializeToString()
    if not verify:
        return None, data
    return _compared(packed, graph, parts, names, data, inputs), data


def _is_integer(node: Node, form: Form) -> bool:
    """Whether a node has a form of its own here; operators of torch have where they move integers."""
    return node.kind in NODES and (node.kind != "aten" or form.type == "int8")


def _model(graph: Graph, program: Program, names: dict[int, str], shown: Sequence[Node]) -> Any:
    """The ONNX model; shown: nodes whose values it gives away."""
    from onnx import helper

    def described(value: int) -> Any:
        form = graph.forms[value]
        return helper.make_tensor_value_info(names[value], TYPES[form.type], ["batch", *form.shape[1:]])

    outputs = [program.output, *(node.output for node in shown if node.output != program.output)]
    made = helper.make_graph(
        graph.nodes,
        "bittern",
        [described(value) for value in range(len(program.inputs))],
        [described(value) for value in outputs],
        graph.numbers,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def _run(data: bytes, names: dict[int, str], inputs: Sequence[Tensor], *, as_written: bool) -> dict[str, Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    given = {names[value]: x.numpy() for value, x in enumerate(inputs)}
    found = session.run(None, given)
    return {output.name: torch.from_numpy(y) for output, y in zip(session.get_outputs(), found, strict=True)}


def _compared(
    packed: Packed,
    graph: Graph,
    parts: Sequence[Node | Island],
    names: dict[int, str],
    data: bytes,
    inputs: Sequence[Tensor],
) -> IntegerReport:
    """Node by node as the file says it, and end to end as the runtime runs it by itself. Raises: ExportError."""
    program = packed.program
    nodes = [part for part in parts if isinstance(part, Node)]
    islands = [part for part in parts if isinstance(part, Island)]
    ends = {value for island in islands for value in island.outputs} | {node.output for node in nodes}
    shown = [node for node in program.nodes if node.output in ends]
    probe = _model(graph, program, names, shown).SerializeToString()
    given = _run(probe, names, inputs, as_written=True)
    given |= {names[value]: x for value, x in enumerate(inputs)}
    layers = tuple(_layer(packed, node, given, names) for node in nodes if node.kind != "aten")
    for island in islands:
        check_island(island, packed.tensors, names, given)
    answer = _run(data, names, inputs, as_written=False)["output"]
    wanted = packed(*inputs)
    apart = (answer.double() - wanted.double()).abs()
    rows = [x.flatten(1).argmax(1) for x in (answer, wanted)]
    return IntegerReport(
        layers,
        len(answer),
        answer.numel(),
        int((apart > 0).sum()),
        float(apart.max()),
        int((rows[0] != rows[1]).sum()),
    )


def _layer(packed: Packed, node: Node, given: dict[str, Tensor], names: dict[int, str]) -> IntegerLayer:
    found = given[names[node.output]]
    step = KINDS[node.kind].build(node, node.named(packed.tensors), CPU)
    wanted = step(*(given[names[v]].contiguous() for v in node.inputs))
    apart = (found.double() - wanted.double()).abs()
    largest = float(apart.max())
    if found.dtype == torch.int8 and largest > MOST_STEPS.get(node.kind, 1):
        raise ExportError(f"to_onnx: node {node.name!r} ({node.kind}) is {largest:g} steps off; nothing was written")
    return IntegerLayer(node.name, found.numel(), int(np.count_nonzero(apart.numpy())), int(np.ceil(largest)))
