# SPDX-License-Identifier: Apache-2.0
"""The networks of `bittern bench speed`: a low-bit one, the float ones that it replaces, and what the project wants.

Targets of instruction sets: they are those of the issue of this benchmark, for one image on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from torch import nn

from bittern import _native, binary, models
from bittern.bench.speed.mobilenet import mobilenet_v1, mobilenet_v2, mobilenet_v3_large
from bittern.bench.speed.peers import AUTOCAST, CHANNELS_LAST, ONNX_FP32, OPENVINO_INT8
from bittern.ops import Isa, chosen_isa
from bittern.quantizer import Method
from bittern.recipes.published import Published

IMAGENET = "ImageNet"
_SLIM = "tensorflow/models research/slim/nets/mobilenet_v1.md"
_BMXNET = "hpi-xnor/BMXNet-v2 wiki"
_REACTNET = "liuzechun/ReActNet README.md"


@dataclass(frozen=True)
class Twin:
    """A float network that does the low-bit one's work."""

    name: str
    build: Callable[[], nn.Module]
    targets: Mapping[str, float] = field(default_factory=dict)
    """Name of a peer -> how many times faster than it the packed network should be, on one thread."""
    published: Published | None = None
    """Of the float network."""
    published_int8: Published | None = None
    """Of the same network in 8 bits."""


@dataclass(frozen=True)
class Network:
    """A low-bit network and its float twins."""

    name: str
    """That of the function in `bittern.models`."""
    title: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    """Of one sample."""
    twins: tuple[Twin, ...]
    file_limit_mib: float | None = None
    memory_share_limit: float | None = None
    """Of the first twin's peak memory."""
    published: Published | None = None


def torch_target() -> float | None:
    """Least ratio to torch fp32, channels-last, on Bi-Real-18: it depends on what the CPU has."""
    amx = _native.cpu_features().get("amx_int8", False)
    return {Isa.AVX512: 9.0 if amx else 12.0, Isa.AVX2: 3.0}.get(chosen_isa())


def networks() -> tuple[Network, ...]:
    """All of them, in the order of the table."""
    large, small = (3, 224, 224), (3, 32, 32)
    return (
        Network(
            "bireal_net18",
            "Bi-Real-18, 224 x 224",
            lambda: models.bireal_net18(binary.BiRealNet),
            large,
            (Twin("ResNet-18 shape", models.bireal_net18, _bireal_targets()),),
            file_limit_mib=4.1,
            memory_share_limit=1 / 3,
            published=Published(56.4, IMAGENET, "Bi-Real-18", "liuzechun/Bi-Real-net README.md"),
        ),
        Network(
            "reactnet_a",
            "ReActNet-A, 224 x 224",
            lambda: models.reactnet_a(binary.ReActNet),
            large,
            (
                Twin("dense 3x3 and 1x1", models.reactnet_a, {CHANNELS_LAST.name: 4.0, ONNX_FP32.name: 1.0}),
                Twin(
                    "MobileNetV1, depthwise 3x3",
                    mobilenet_v1,
                    {ONNX_FP32.name: 1.6},
                    Published(70.9, IMAGENET, "MobileNetV1", _SLIM),
                    Published(70.1, IMAGENET, "MobileNetV1", _SLIM),
                ),
                Twin("MobileNetV2", mobilenet_v2, {}, *_torchvision("MobileNetV2", "mobilenetv2", 71.878, 71.658)),
                Twin(
                    "MobileNetV3-Large",
                    mobilenet_v3_large,
                    {},
                    *_torchvision("MobileNetV3-Large", "mobilenetv3", 74.042, 73.004),
                ),
            ),
            memory_share_limit=1 / 3,
            published=Published(69.5, IMAGENET, "ReActNet-A", _REACTNET),
        ),
        _with_twin("react_resnet18", "ReAct-ResNet-18, 224 x 224", models.react_resnet18, binary.ReActNet, large),
        *_made_for_signs(large),
        _with_twin("resnet20_cifar", "ResNet-20, 32 x 32", models.resnet20_cifar, binary.ReCU, small),
        _with_twin("vgg_small", "VGG-small, 32 x 32", models.vgg_small, binary.ReCU, small),
    )


def _bireal_targets() -> dict[str, float]:
    targets = {ONNX_FP32.name: 5.0}
    wanted = torch_target()
    if wanted is not None:
        targets[CHANNELS_LAST.name] = wanted
    if _native.cpu_features().get("amx_int8", False):
        targets[AUTOCAST.name] = 2.5
    elif chosen_isa() is Isa.AVX512:
        targets |= {ONNX_FP32.name: 7.5, OPENVINO_INT8.name: 2.3}
    return targets


def _made_for_signs(large: tuple[int, ...]) -> tuple[Network, ...]:
    """Networks whose authors drew them for binary layers."""

    def one(name: str, title: str, model: Callable[..., nn.Module], limit: float, published: Published) -> Network:
        method = partial(binary.BNN, limit=limit)
        targets = {CHANNELS_LAST.name: 6.0}
        return _with_twin(name, f"{title}, 224 x 224", model, method, large, targets, published)

    melius = Published(63.6, IMAGENET, "MeliusNet-22", _BMXNET)
    dense = Published(61.7, IMAGENET, "BinaryDenseNet-28", _BMXNET)
    quick = Published(63.3, IMAGENET, "QuickNet", "larq/zoo larq_zoo/sota/quicknet.py")
    return (
        one("binary_densenet28", "BinaryDenseNet-28", models.binary_densenet28, 1.3, dense),
        one("meliusnet22", "MeliusNet-22", models.meliusnet22, 1.3, melius),
        one("quicknet", "QuickNet", models.quicknet, 1.25, quick),
    )


def _torchvision(network: str, file: str, accuracy: float, in_8_bits: float) -> tuple[Published, Published]:
    """Of the float network, and of it trained on in 8 bits."""
    folder = "pytorch/vision torchvision/models"
    return (
        Published(accuracy, IMAGENET, network, f"{folder}/{file}.py"),
        Published(in_8_bits, IMAGENET, network, f"{folder}/quantization/{file}.py"),
    )


def _with_twin(
    name: str,
    title: str,
    model: Callable[..., nn.Module],
    method: Method,
    input_shape: tuple[int, ...],
    targets: Mapping[str, float] | None = None,
    published: Published | None = None,
) -> Network:
    """A network whose float twin is the same graph."""
    twin = Twin("the same in float", model, targets or {})
    return Network(name, title, lambda: model(method), input_shape, (twin,), published=published)
