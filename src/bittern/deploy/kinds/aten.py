# SPDX-License-Identifier: Apache-2.0
"""The node kind `aten`, one operator of torch from an explicit list, run as it is, and `part`, one of its results.

torch itself works out the shapes of what an operator gives, on tensors without memory. An operator with several
results gives a tuple, of which nodes of the kind `part` take one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.form import BATCHES, Form, Shape, Tensors, fail, need
from bittern.deploy.kinds.aten_call import OperatorError, bound, call_of, called, check, overload_of
from bittern.deploy.kinds.aten_memory import working_bytes
from bittern.deploy.kinds.kind import AttrRule, Kind, Step, count, integer
from bittern.deploy.kinds.real import window_in_padding
from bittern.deploy.program import VALUE_TYPES, Node, type_name

META = torch.device("meta")
MOST_PARTS = 256
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
SEQUENCE_DIMS = 3
CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "convolution")


def _form(node: Node, tensors: Tensors, *inputs: Form) -> Form:
    """The form of an operator's result; its arguments are checked against its schema on the way."""
    for form in inputs:
        need(node, form.type not in ("acc", "bits"), f"it takes no {form.type}")
    on_meta = {role: tensor.to(META) for role, tensor in tensors.items()}
    arguments = bound(node, on_meta, META)
    results = []
    for index in range(len(BATCHES)):
        try:
            results.append(_result(node, arguments, [form.at(index) for form in inputs]))
        except OperatorError as error:
            raise fail(node, str(error).removeprefix("packed model: ")) from error
    if _name(node) in CONVOLUTIONS:
        _check_windows(node, arguments(*(form.at(0) for form in inputs)))
    return _form_of(node, results[0], results[1])


def _name(node: Node) -> str:
    return str(node.attrs["operator"]).split(".")[0]


def _result(node: Node, arguments: Callable[..., dict[str, Any]], inputs: Sequence[Any]) -> Any:
    """What an operator gives on tensors without memory. Raises: OperatorError."""
    if _name(node) in RECURRENT:
        return _of_all_steps(node, arguments, inputs)
    return called(node, overload_of(node), arguments, inputs)


def _of_all_steps(node: Node, arguments: Callable[..., dict[str, Any]], inputs: Sequence[Any]) -> Any:
    """The results of a recurrent layer, of which torch is shown one step: each is like the first.

    Of all it would take as long as a call, since it goes through them one after another. Raises: OperatorError.
    """

    def one_step(*inputs: Any) -> dict[str, Any]:
        given = arguments(*inputs)
        return {**given, "input": given["input"].narrow(int(bool(given.get("batch_first"))), 0, 1)}

    one, *states = called(node, overload_of(node), one_step, inputs)
    given = arguments(*inputs)
    last = bool(given.get("batch_first"))
    x = given["input"].transpose(0, 1) if last else given["input"]
    need(node, x.ndim == SEQUENCE_DIMS, "it takes [steps, batch, channels]")
    steps = one.new_empty((*x.shape[:2], one.shape[-1]))
    return (steps.transpose(0, 1) if last else steps, *states)


def _check_windows(node: Node, arguments: dict[str, Any]) -> None:
    """Refuse what makes oneDNN read a null pointer in some layouts (`real.pads_whole_windows`)."""
    weight, padding = arguments["weight"], arguments.get("padding", 0)
    if isinstance(padding, str) or (arguments["input"].is_contiguous() and weight.is_contiguous()):
        return
    kernel = weight.shape[2:]
    sizes = [_per_dimension(value, len(kernel)) for value in (padding, arguments.get("dilation", 1))]
    inside = not window_in_padding(kernel, *sizes)
    need(node, inside, "where a window may lie in the padding alone, its input must be contiguous")


def _per_dimension(value: Any, dims: int) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return values * dims if len(values) == 1 else values


def _part_form(node: Node, tensors: Tensors, values: Form) -> Form:
    """One of several results."""
    need(node, values.type == "tuple" and values.meta is not None, "it takes the results of an operator with several")
    assert values.meta is not None
    fewer, more = values.meta
    index = integer(node, "index")
    need(node, index < len(fewer), f"there are {len(fewer)} results")
    return _form_of(node, fewer[index], more[index])


def _form_of(node: Node, fewer: Any, more: Any) -> Form:
    """The form of a result, from what it is at the two batches of `BATCHES`."""
    if isinstance(fewer, (tuple, list)):
        need(node, len(fewer) == len(more) <= MOST_PARTS, "it has too many results, or more with a larger batch")
        forms = [_form_of(node, *pair) for pair in zip(fewer, more, strict=True)]
        return Form((sum(form.elements for form in forms),), "tuple", meta=(tuple(fewer), tuple(more)))
    need(node, isinstance(fewer, Tensor) and fewer.device == META, "its result is no tensor")
    need(node, fewer.dtype in VALUE_TYPES.values(), f"its result is {fewer.dtype}, which no program holds")
    shape = _of_one_sample(node, tuple(fewer.shape), tuple(more.shape))
    kind = "real" if fewer.dtype == torch.float32 else type_name(fewer.dtype)
    return Form(shape, kind, meta=(fewer, more))


def _of_one_sample(node: Node, fewer: Shape, more: Shape) -> Shape:
    need(node, len(fewer) == len(more), "its dimensions change with the batch")
    sizes = tuple(2 * m - n for m, n in zip(fewer, more, strict=True))
    need(node, all(size >= 0 for size in sizes), f"its result has {list(sizes)} elements for one sample")
    return sizes


def _build_part(node: Node, tensors: Tensors, device: torch.device) -> Step:
    index = integer(node, "index")
    return lambda values: values[index]


ATEN = Kind(
    name="aten",
    inputs=(-1,),
    attrs={"operator": AttrRule(str), "arguments": AttrRule(list, tree=True)},
    tensors=None,
    check=check,
    shape=_form,
    build=call_of,
    view=True,
    infinite=True,
    working=working_bytes,
)

PART = Kind(
    name="part",
    attrs={"index": count(0, 255)},
    shape=_part_form,
    build=_build_part,
    view=True,
)
