"""pack: from a trained module to a `Packed` model that gives the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import bittern._version as version
from bittern.deploy import image_info
from bittern.deploy.check import check_program, forms_of
from bittern.deploy.fold import fold
from bittern.deploy.kinds import FormatError, PackError
from bittern.deploy.lower_functions import function_lowering
from bittern.deploy.lower_modules import module_lowering
from bittern.deploy.packed import Packed, type_and_advice
from bittern.deploy.trace import lower, trace
from bittern.deploy.verify import verify

if TYPE_CHECKING:
    from bittern.data import ImageData


def pack(
    model: nn.Module,
    example: Tensor,
    *,
    classes: Sequence[str] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    data: ImageData | None = None,
) -> Packed:
    """Pack a trained model: trace it, fold batch norms, scales and thresholds, replace low-bit layers by packed ones.

    model: a module that takes one tensor and returns one; it is not changed. example: float32 input [batch, ...] on
    the CPU; its shape without the batch becomes the shape that the packed model takes. Layers that stay real stay
    float32. The result is verified on `example` before it is returned.

    classes: a name for each answer. mean, std: of each channel (or one number for all), by which images of brightness
    0 ... 1 were normalized for training. data: the data set of the training, which says all three. None of them changes
    what the network computes; they go into the file, so that `bittern run FILE IMAGES` can read image files.

    Raises: PackError naming the layer that has no packed form, or when the packed model disagrees with `model`.
    """
    if not isinstance(example, Tensor):
        raise PackError(f"pack: example must be a torch.Tensor; got {type_and_advice(example)}")
    if example.dtype != torch.float32 or example.ndim < 2 or example.shape[0] == 0 or example.device.type != "cpu":
        raise PackError(
            f"pack: example must be a float32 CPU tensor [batch, ...] with at least one sample; "
            f"got {example.dtype} {list(example.shape)} on {example.device}"
        )
    images = image_info.given(example.shape[1], classes, mean, std, data)
    graph, frozen = trace(model)
    with torch.no_grad():
        program, tensors = lower(graph, frozen, tuple(example.shape[1:]), module_lowering, function_lowering)
    try:
        with torch.no_grad():
            program, tensors = fold(program, tensors)
        check_program(program, tensors)
    except FormatError as error:
        raise PackError(f"pack: {error}") from error
    answers = forms_of(program, tensors)[program.output].shape
    problem = images.problem(example.shape[1], answers[1] if len(answers) == 2 else None)
    if problem is not None:
        raise PackError(f"pack: {problem}")
    info = {"bittern": version.__version__, "model": type(model).__name__, **images.to_info()}
    packed = Packed(program, tensors, info, example.device)
    report = verify(packed, model, example)
    if not report.exact:
        raise PackError(f"pack: the packed model disagrees with the original on the example:\n{report}")
    return packed
