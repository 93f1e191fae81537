# SPDX-License-Identifier: Apache-2.0
"""What an exported model returns: which outputs of its graph, and how they lie within each other."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

import torch
from torch.export.graph_signature import ConstantArgument, OutputKind, TensorArgument

from bittern.deploy.errors import PackError
from bittern.deploy.structure import CONSTANT, DICT, TUPLE, Tree, check_tree, inside


def is_tensor(argument: Any) -> bool:
    """Whether an argument of a graph, or a result, is a tensor."""
    return isinstance(argument, TensorArgument)


def no_tensor(results: Iterable[str]) -> PackError:
    """The error for results by their names."""
    return PackError(
        f"pack: result {', '.join(map(repr, results))} of the model is no tensor that depends on its input; wrap the "
        "model to return none but those that do"
    )


def results_of(program: torch.export.ExportedProgram, name: str) -> tuple[int, ...]:
    """Which outputs of the graph are tensors of the model's. Raises: PackError for a model that remembers."""
    specs = program.graph_signature.output_specs
    free = (OutputKind.USER_OUTPUT, OutputKind.USER_INPUT_MUTATION)
    written = [str(spec.target) for spec in specs if spec.kind not in free]
    if written:
        raise PackError(
            f"pack: {name} writes into {', '.join(map(repr, written))} in eval mode, and a packed model has no memory; "
            "let it compute them from the input alone when it does not train"
        )
    own = (index for index, spec in enumerate(specs) if spec.kind is OutputKind.USER_OUTPUT and is_tensor(spec.arg))
    return tuple(own)


def answer_of(program: torch.export.ExportedProgram, name: str) -> Tree:
    """The structure of a model's results. Raises: PackError for what no program returns."""
    spec = program.call_spec.out_spec
    assert spec is not None
    outputs = [output.arg for output in program.graph_signature.output_specs if output.kind is OutputKind.USER_OUTPUT]
    places, order = iter(outputs), count()

    def tree(spec: Any, path: str) -> Tree:
        if spec.is_leaf():
            argument = next(places)
            if is_tensor(argument):
                return next(order)
            if isinstance(argument, ConstantArgument) and argument.value is None:
                return [CONSTANT, None]
            raise no_tensor([path])
        keys = getattr(spec.context, "_fields", spec.context)
        children = spec.children()
        if spec.type in (tuple, list):
            return [TUPLE, *(tree(child, inside(path, place)) for place, child in enumerate(children))]
        if not isinstance(keys, (list, tuple)) or len(keys) != len(children):
            raise PackError(
                f"pack: {name} returns {getattr(spec.type, '__name__', spec.type)}; wrap it to return tensors, alone "
                "or in tuples and dicts"
            )
        names = [str(key) for key in keys]
        return [DICT, names, *(tree(child, inside(path, name)) for name, child in zip(names, children, strict=True))]

    found = tree(spec, "")
    try:
        check_tree(found)
    except ValueError as error:
        raise PackError(f"pack: {name} returns what no program does: {error}") from error
    return found
