# SPDX-License-Identifier: Apache-2.0
"""Calibration data: one tensor of samples, or batches as the model is called with them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bittern.deploy.input_check import check_input, type_and_advice
from bittern.deploy.parameters import arguments_of, bound
from bittern.deploy.program import Program

MOST_SAMPLES = 32
"""Of one tensor that are looked at together."""
EXAMPLE_SAMPLES = 2
"""Of the first batch, with which torch.export reads the model."""
CPU = torch.device("cpu")


def read_batches(one: bool, calibration: Any) -> list[Any]:
    """What the model is called with, once for each batch. one: whether it is called with one tensor (`takes_one`).

    calibration: one tensor [samples, ...]; a dict of arguments by name, or a tuple of them where the model takes
    several; or an iterable of these. Of pairs (inputs, labels), as loaders of data give them, a model that takes one
    tensor is given the inputs.

    Raises: TypeError, ValueError for what is none of these, or has no samples.
    """
    if isinstance(calibration, Tensor):
        found: list[Any] = list(torch.split(calibration, MOST_SAMPLES)) if calibration.ndim else []
    elif isinstance(calibration, Mapping) or (type(calibration) is tuple and not one):
        found = [calibration]
    elif isinstance(calibration, Iterable):
        found = [_inputs_of(batch) if one else batch for batch in calibration]
    else:
        raise TypeError(f"quantize: calibration must be a tensor or batches; got {type_and_advice(calibration)}")
    if not found or any(x.numel() == 0 for batch in found for x in _tensors(batch)):
        raise ValueError("quantize: calibration has no samples, or a batch without any; give some typical inputs")
    return found


def takes_one(model: nn.Module) -> bool:
    """Whether the forward can be called with one tensor and nothing else."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    asked = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return len(asked) == 1 and asked[0].kind in kinds


def _inputs_of(batch: Any) -> Any:
    """A batch without its labels."""
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch):
        return batch[0]
    return batch


def _tensors(batch: Any) -> list[Tensor]:
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (tuple, list)) else (batch,)
    return [part for part in parts if isinstance(part, Tensor)]


def example_of(batch: Any) -> Any:
    """What torch.export reads a model with: a few samples of one tensor, other batches as they are."""
    return batch[:EXAMPLE_SAMPLES] if isinstance(batch, Tensor) and batch.ndim else batch


def program_inputs(program: Program, batches: Sequence[Any]) -> list[Sequence[Tensor]]:
    """The inputs of a program for each batch. Raises: TypeError, ValueError naming the batch that does not fit."""
    found: list[Sequence[Tensor]] = []
    for place, batch in enumerate(batches):
        try:
            inputs = bound(program.parameters, *arguments_of(batch))
            for given, x in zip(program.inputs, inputs, strict=True):
                check_input("the input" if len(inputs) == 1 else f"input {given.name!r}", given, x, CPU)
        except (TypeError, ValueError) as error:
            said = str(error).removeprefix("packed model: ")
            raise type(error)(f"quantize: calibration batch {place}: {said}") from error
        found.append([x.detach() for x in inputs])
    return found


def first_samples(program: Program, batches: Sequence[Sequence[Tensor]]) -> list[Sequence[Tensor]]:
    """The first batches that together have `MOST_SAMPLES` samples, cut where one tensor makes that possible."""
    found: list[Sequence[Tensor]] = []
    left = MOST_SAMPLES
    for inputs in batches:
        if left <= 0:
            break
        one = len(inputs) == 1 and program.inputs[0].batch == 0
        found.append([inputs[0][:left]] if one else inputs)
        left -= program.batch_of(inputs)
    return found
