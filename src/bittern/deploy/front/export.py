# SPDX-License-Identifier: Apache-2.0
"""From a module to a graph of ATen operators, by torch.export.

torch itself resolves what a forward does: keyword arguments, functions that stand for layers, hooks, parametrizations,
in-place operations and views. What depends on values cannot be exported, and ends in an error that says where.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind
from torch.fx.experimental import _config as shape_config

from bittern.deploy.errors import PackError
from bittern.deploy.front.answer import answer_of, is_tensor, results_of
from bittern.deploy.front.batch import Dims, batch_dims
from bittern.deploy.front.batch_splits import BatchSplits
from bittern.deploy.front.cause import cause, failure, fixes_batch
from bittern.deploy.front.dynamic import Dynamic
from bittern.deploy.front.example import Example
from bittern.deploy.front.in_place import is_functional, rename_plain_writes
from bittern.deploy.front.limits import OtherLimits, check_limits, named_sizes, symbols_of
from bittern.deploy.front.recurrent import RecurrentLayers
from bittern.deploy.front.stand_in import put_in, remove_from
from bittern.deploy.front.where import guards_noted, place_of_error
from bittern.deploy.parameters import Parameter, called, without_constants
from bittern.deploy.program import NamedSize
from bittern.deploy.size_expression import BATCH
from bittern.deploy.structure import Tree
from bittern.deploy.unseen import check_eval, cpu_copy, describe_failure, is_leaf
from bittern.nn._copy import copied
from bittern.nn._noise import repeated
from bittern.nn.binarize import LowBitLayer

MOST_EXPORTS = 3
"""Dimensions that may be the batch with which an export is tried."""

LEAST_BATCH = 2
"""torch.export takes a batch of 0 or 1 for a number of the model's own."""

_EXPORTING = threading.Lock()
"""torch replaces methods of nn.Module for the whole process while it exports, so one thread does at a time."""

MOST_LIMITS = 3
"""Exports with limits that torch.export found in the one before."""


class Exported(NamedTuple):
    """What torch.export made of a model."""

    graph: fx.Graph
    layers: nn.Module
    """The copy of the model whose layers the graph names."""
    tensors: Mapping[str, Tensor]
    """Parameters, buffers and constants by the name of their placeholder."""
    inputs: Mapping[str, int]
    """Numbers of the tensors that the model is given, by the name of their placeholder."""
    batch: Dims
    """Which dimension of each of them is the batch."""
    symbols: Mapping[Any, str]
    """What the symbols of torch.export stand for: the batch, or a named size."""
    sizes: tuple[NamedSize, ...]
    """Those that the caller asked for."""
    results: tuple[int, ...]
    """Which outputs of the graph are tensors that the model returns; others say what it wrote into its inputs."""
    answer: Tree
    """The structure of the results."""


def export(model: nn.Module, example: Example, dynamic: Dynamic) -> Exported:
    """Export a copy of `model` in eval mode on the CPU, for batches, and sizes that have a name, of any size.

    Raises: PackError when it cannot be copied or exported, or does what no graph shows (`unseen`).
    """
    runs = len(example.tensors) > 1 or 0 in dynamic.dims[0]  # to find the batch
    layers, name = _copied(model, runs), type(model).__name__
    check_eval(layers)
    program, batch = _first_exported(layers, name, example, dynamic)
    known: dict[str, Tensor] = {**program.state_dict, **program.constants}
    specs = program.graph_signature.input_specs
    tensors = {spec.arg.name: known[str(spec.target)] for spec in specs if spec.kind is not InputKind.USER_INPUT}
    given = [spec.arg.name for spec in specs if spec.kind is InputKind.USER_INPUT and is_tensor(spec.arg)]
    if len(given) != len(example.tensors):
        raise PackError(
            f"pack: {name} takes {len(example.tensors)} tensors, and torch.export found {len(given)} of them"
        )
    inputs = {placeholder: place for place, placeholder in enumerate(given)}
    symbols = symbols_of(program.graph, inputs, batch, dynamic)
    sizes = named_sizes(program, symbols, example, dynamic)
    results, answer = results_of(program, name), answer_of(program, name)
    return Exported(program.graph, layers, tensors, inputs, batch, symbols, sizes, results, answer)


def _copied(model: nn.Module, runs: bool) -> nn.Module:
    """runs: whether it is run, not exported alone, so that a forward may write into its parameters."""
    try:
        copy = cpu_copy(model, frozen=not runs)
    except Exception as error:
        raise PackError(
            f"pack: {type(model).__name__} cannot be copied to the CPU ({describe_failure(error)}); keep what "
            "cannot be copied out of its attributes"
        ) from error
    # a layer by itself has no name; inside a sequence it has
    alone = is_leaf(copy) and not any(isinstance(part, LowBitLayer) for part in [*copy.modules()][1:])
    return (_Alone(copy) if alone else copy).eval().requires_grad_(False)


class _Alone(nn.Sequential):
    """One layer, called as it is."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self[0](*args, **kwargs)


class _FixedBatch(PackError):
    """The answer depends on the size of the batch, as far as torch.export sees."""


def _first_exported(
    model: nn.Module, name: str, example: Example, dynamic: Dynamic
) -> tuple[torch.export.ExportedProgram, Dims]:
    """The program with the likeliest batch that torch.export takes, and that batch. Raises: PackError."""
    refusals: list[_FixedBatch] = []
    for dims in islice(_likely_batches(model, example, dynamic), MOST_EXPORTS):
        for splits in (False, True):
            try:
                return _anyhow(model, name, example, dims, dynamic, splits), dims
            except _FixedBatch as error:
                refusals.append(error)
                remove_from(model)
    raise refusals[0]


def _anyhow(
    model: nn.Module, name: str, example: Example, dims: Dims, dynamic: Dynamic, splits: bool
) -> torch.export.ExportedProgram:
    """The program in the way of `_by_torch` that makes one. Raises: PackError, that of the first way.

    splits: whether splits of several batches into these are written as slices (`batch_splits`).
    """
    ways = (True, False) if dynamic.limits else (False,)
    refusals: list[PackError] = []
    for oblivious in ways:
        try:
            with BatchSplits() if splits else nullcontext():
                return _within_limits(model, name, example, dims, dynamic, oblivious)
        except PackError as error:
            refusals.append(error)
            remove_from(model)
    raise refusals[0]


def _within_limits(
    model: nn.Module, name: str, example: Example, dims: Dims, dynamic: Dynamic, oblivious: bool
) -> torch.export.ExportedProgram:
    """The program with the limits of named sizes that it needs. Raises: PackError."""
    for last in (False,) * MOST_LIMITS + (True,):
        put_in(model)
        try:
            return _exported(model, name, example, dims, dynamic, oblivious, last)
        except OtherLimits as error:
            remove_from(model)
            dynamic = dynamic._replace(limits={**dynamic.limits, **error.limits})
    raise AssertionError("the last trial returns or refuses")


def _likely_batches(model: nn.Module, example: Example, dynamic: Dynamic) -> Iterator[Dims]:
    def run(tensors: Sequence[Tensor]) -> Any:
        args, kwargs = called(example.parameters, tensors)
        return model(*args, **kwargs)

    try:
        yield from batch_dims(run, example.tensors, dynamic.dims)
    except PackError:
        raise
    except Exception as error:
        raise failure(example, error) from error


def _exported(
    model: nn.Module, name: str, example: Example, dims: Dims, dynamic: Dynamic, oblivious: bool, last: bool
) -> torch.export.ExportedProgram:
    """oblivious: as in `_by_torch`; last: whether limits that torch.export finds are refused, and not tried."""
    kind = type(model)
    example = example._replace(tensors=tuple(map(_of_more, example.tensors, dims)))
    growing = _growing(dims, dynamic)
    args, kwargs = called(example.parameters, example.tensors)
    try:
        with _EXPORTING, warnings.catch_warnings(), guards_noted() as guards:
            warnings.simplefilter("ignore")  # torch's own, about how it is written
            shapes = _by_argument(model, *called(without_constants(example.parameters), growing))
            if _takes_any_name(model, kwargs):
                shapes, args, kwargs = {"tensors": tuple(growing)}, example.tensors, {}
                _take_tensors_alone(model, example.parameters)
            program = _by_torch(model, args, kwargs, shapes, bool(dynamic.limits), oblivious)
            rename_plain_writes(program.graph)
            if not is_functional(program.graph):
                program = program.run_decompositions({})
    except Exception as error:
        model.__class__ = kind
        _check_example(model, example)
        if not fixes_batch(error):
            check_limits(name, place_of_error(error), error, dynamic, last)
        refusal = _FixedBatch if fixes_batch(error) else PackError
        raise refusal(f"pack: {name} cannot be exported: {cause(error, guards.place())}") from error
    return program


def _growing(dims: Dims, dynamic: Dynamic) -> list[Any]:
    """What torch.export is told of each tensor: None, or which of its dimensions are not fixed."""
    batch = torch.export.Dim(BATCH)
    named = {name: limits.to_torch(name) for name, limits in dynamic.limits.items()}
    found: list[Any] = []
    for dim, names in zip(dims, dynamic.dims, strict=True):
        own = {place: named[name] for place, name in names.items()} | ({} if dim is None else {dim: batch})
        found.append(own or None)
    return found


def _by_torch(
    model: nn.Module, args: Any, kwargs: Any, shapes: Any, conditions: bool, oblivious: bool
) -> torch.export.ExportedProgram:
    """torch.export. conditions: what the model asks of its sizes becomes assertions in the graph, and no refusal.

    oblivious: torch does not ask whether sizes are 1, and so asserts less; where it then sees too little to go on,
    conditions that exclude sizes of 1 help it.
    """
    if not conditions:
        return torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
    with RecurrentLayers(), shape_config.patch(backed_size_oblivious=oblivious):  # type: ignore[attr-defined]
        return torch.export.export(
            model,
            args,
            kwargs,
            dynamic_shapes=shapes,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def _of_more(x: Tensor, dim: int | None) -> Tensor:
    return x if dim is None or x.shape[dim] >= LEAST_BATCH else repeated(x, dim, LEAST_BATCH)


def _takes_any_name(model: nn.Module, kwargs: Mapping[str, Any]) -> bool:
    """Whether any argument goes into the **kwargs of a forward, of which torch.export loses track."""
    return not set(kwargs) <= set(inspect.signature(model.forward).parameters)


def _take_tensors_alone(model: nn.Module, parameters: Sequence[Parameter]) -> None:
    """Let a model, which is a copy, be called with its tensors one after another."""
    kind = type(model)

    def forward(self: nn.Module, *tensors: Tensor) -> Any:
        args, kwargs = called(parameters, tensors)
        return kind.forward(self, *args, **kwargs)

    model.__class__ = type(kind.__name__, (kind,), {"forward": forward})


def _by_argument(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of each argument of a call, by the name of its parameter, as torch.export takes it."""
    return dict(inspect.signature(model.forward).bind(*args, **kwargs).arguments)


def _check_example(model: nn.Module, example: Example) -> None:
    """Raises: PackError where the model itself fails on the example: then its export is not at fault."""
    remove_from(model)
    model = copied(model)  # the forward may write into its parameters, which are the user's
    args, kwargs = called(example.parameters, [x.clone() for x in example.tensors])
    try:
        model(*args, **kwargs)
    except Exception as error:
        raise failure(example, error) from error
