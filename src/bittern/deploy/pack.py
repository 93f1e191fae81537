# SPDX-License-Identifier: Apache-2.0
"""pack: from a trained module to a `Packed` model that gives the same answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import bittern._version as version
from bittern.deploy import image_info
from bittern.deploy.errors import FormatError, PackError
from bittern.deploy.fold import fold
from bittern.deploy.front import read
from bittern.deploy.front.dynamic import Dynamic, read_dynamic
from bittern.deploy.front.example import Example, read_example
from bittern.deploy.named_sizes import at_example
from bittern.deploy.packed import CONSTANT_LAYERS, Packed
from bittern.deploy.plain import plain_cpu
from bittern.deploy.shapes import forms_of
from bittern.deploy.unseen import check_seen, describe_failure
from bittern.deploy.unwrap import unwrapped
from bittern.deploy.validate import check_program
from bittern.deploy.verify import verify_frozen
from bittern.deploy.verify_report import VerifyReport
from bittern.nn.sign_shares import warn_of_constant_inputs

if TYPE_CHECKING:
    from bittern.data import ImageData

NOT_FIT = (TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError, RuntimeError)
"""What numbers of a call that nobody foresaw may raise where shapes are worked out."""


def pack(
    model: nn.Module,
    example: Any,
    *,
    classes: Sequence[str] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    data: ImageData | None = None,
    dynamic: Mapping[Any, Any] | None = None,
) -> Packed:
    """Pack a trained model: export it, fold batch norms, scales and thresholds, replace low-bit layers by packed ones.

    model: a module that takes tensors and returns tensors, alone or in tuples, lists and dicts.
    example: what it is called with: a tensor [batch, ...], a tuple of all arguments by position, or a dict of them by
    name; on the CPU, float32, float64, bool or of integers (token ids). Shapes without the batch become those that the
    packed model takes. None, numbers and texts among the arguments, and defaults of the forward, become part of the
    program. Both are left as they were, and autocast and torch's defaults change nothing.

    The batch is the first dimension of a tensor by itself. Of several tensors it is found by running the model with
    other sizes than the example's (`front.batch`): first the size that the first tensor has first, then all others. A
    tensor has the batch in the first of its dimensions that has this size and with which the model runs; one without
    such a dimension holds for all samples. The first size that comes first in all results, or else in most of them, and
    that torch.export takes for one that changes, is the batch. So give an example whose batch is unlike the sizes of
    its tables.

    dynamic: dimensions besides the batch that each call chooses, such as the length of a sequence: by the name of the
    input and the dimension, {"input_ids": {1: "length"}, "mask": {1: "length"}}, or {2: "height", 3: "width"} of one
    tensor. One name is one size. Limits are those that torch.export finds the model to have, or those of a
    torch.export.Dim("length", min=2, max=512) in place of a name. What the model asks of its sizes beyond that is
    checked in each call (docs/packed_format.md). `Packed.at` fixes them, as C and ExecuTorch need it.

    Layers that stay real stay float32. The result is verified before it is returned, on `example` and on batches of
    noise of its shape, since an example of zeros would prove little; with named sizes at others of them too.

    classes: a name for each answer. mean, std: of each channel (or one number for all), by which images of brightness
    0 ... 1 were normalized for training. data: the data set of the training, which says all three. None of them changes
    what the network computes; they go into the file, so that `bittern run FILE IMAGES` can read image files.

    Warns: ConstantInputWarning naming low-bit layers whose input is the same whatever the model is shown.
    Raises: PackError naming everything that has no packed form, or when the packed model disagrees with `model`.
    """
    model = unwrapped(model)
    check_seen(model)
    with plain_cpu():
        given = read_example(model, example)
        images = image_info.given(given.channels, classes, mean, std, data)
        packed = _packed(model, given, read_dynamic(given, dynamic), images)
        report = _verified(packed, model, example)
        packed.release()
    warn_of_constant_inputs("pack", report.inputs)
    return packed


def _packed(model: nn.Module, example: Example, dynamic: Dynamic, images: image_info.ImageInfo) -> Packed:
    program, tensors, constant_layers = read(model, example, dynamic)
    try:
        program, tensors = fold(program, tensors)
        check_program(program, tensors)
    except FormatError as error:
        raise PackError(f"pack: {error}") from error
    except NOT_FIT as error:
        raise PackError(f"pack: the calls of this model do not fit together: {describe_failure(error)}") from error
    form = forms_of(at_example(program), tensors)[program.output]
    answers = form.shape if form.type == "real" else ()
    problem = images.problem(example.channels, answers[1] if len(answers) == 2 else None)
    if problem is not None:
        raise PackError(f"pack: {problem}")
    info = {"bittern": version.__version__, "model": type(model).__name__, **images.to_info()}
    if constant_layers:
        info[CONSTANT_LAYERS] = json.dumps(constant_layers)
    return Packed(program, tensors, info, torch.device("cpu"))


def _verified(packed: Packed, model: nn.Module, example: Any) -> VerifyReport:
    try:
        report = verify_frozen(packed, model, example)
    except ValueError as error:
        raise PackError(f"pack: {str(error).removeprefix('verify: ')}") from error
    if not report.exact:
        raise PackError(f"pack: the packed model disagrees with the original:\n{report}")
    return report
