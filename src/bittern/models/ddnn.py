# SPDX-License-Identifier: Apache-2.0
"""DDNN, a network that lies on several devices, an edge and a cloud, with an exit at each (ICDCS 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bittern.estimators import Clip, binarize
from bittern.models._layers import check_arguments, conv, linear, start_weights
from bittern.models.aggregation import NO_SCORE, NO_SIGN, Aggregation, Concatenation, MaxPooling
from bittern.nn._layer_checks import check_method
from bittern.nn._probe import eval_mode
from bittern.quantizer import InputCode, LayerShape, Method, Quantized, Quantizer, SignCode, WeightCode
from bittern.start import HeNormal

POOL, POOL_PADDING = 3, 1
DEVICE_STRIDE, LEVEL_STRIDE = 2, 1
"""Of the pools: each block of a device halves its image, rounding up; those of edge and cloud keep its size."""
LOCAL, EDGE, CLOUD = "local", "edge", "cloud"
"""Names of the exits behind those of the devices (`device_exit`)."""


def device_exit(index: int) -> str:
    """Name of the exit of one device alone."""
    return f"device {index}"


class BinaryStep(nn.Module):
    """What is sent: +1 where x >= 0, else -1; backward, 1{|x| <= 1}."""

    def forward(self, x: Tensor) -> Tensor:
        return binarize(x, Clip())


class OfSigns(Quantizer):
    """The weights, output scales and gate of a method, on inputs that are signs already.

    Forward: w_q = method.weight(w), x_q = sign(x), which is x. Backward: 1{|x| <= 1}, which is 1 at a sign. Methods
    with other estimators have no derivative there (Bi-Real Net's 2 - 2|x| is 0), so that nothing in front of what was
    sent would learn; and a threshold or scale of their own would say nothing about signs.
    Errors: those of the method.
    Source: the paper's binary step; none of its own.
    """

    def __init__(self, shape: LayerShape, *, method: Method) -> None:
        super().__init__(shape)
        self.inner = method(shape)
        self.start = self.inner.start
        self.clip_latent = self.inner.clip_latent
        self.latent_free = self.inner.latent_free
        self.gate_macs = self.inner.gate_macs

    def weight(self, w: Tensor) -> Quantized | tuple[Quantized, ...]:
        return self.inner.weight(w)

    def weight_code(self) -> WeightCode:
        return self.inner.weight_code()

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, Clip()))

    def input_code(self) -> InputCode:
        return SignCode()

    def output(self, y: Tensor) -> Tensor:
        return self.inner.output(y)

    def output_factors(self) -> tuple[Tensor, ...]:
        return self.inner.output_factors()

    def gate(self, x: Tensor) -> Tensor | None:
        return self.inner.gate(x)

    @property
    def unwrapped(self) -> Quantizer:
        return self.inner.unwrapped

    def settle(self, w: Tensor) -> None:
        self.inner.settle(w)

    def set_progress(self, t: float) -> None:
        self.inner.set_progress(t)


@dataclass(frozen=True)
class Level:
    """What an edge or a cloud computes: blocks of these widths, on what `aggregation` makes of the devices' features.

    aggregation: None is concatenation; of a cloud behind an edge, which hears the edge alone, it must be None.
    """

    widths: tuple[int, ...] = (16, 16)
    aggregation: Aggregation | None = None


class DevicePart(nn.Module):
    """One device: view [batch, channels, height, width] -> features of {-1, +1}, and class scores of its own."""

    def __init__(self, block: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.head = head

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        features = self.block(view)
        return features, self.head(features)


class LevelPart(nn.Module):
    """Edge or cloud: what the aggregation made [batch, channels, height, width] -> features, and class scores.

    The features of an edge are {-1, +1}; those of a cloud, which sends none, are not.
    """

    def __init__(self, aggregation: Aggregation, block: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.aggregation = aggregation
        self.block = block
        self.head = head

    def forward(self, parts: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        features = self.block(self.aggregation(parts, NO_SIGN))
        return features, self.head(features)


class LocalPart(nn.Module):
    """The local exit: class scores of all devices -> class scores [batch, classes]; `head` is None but for CC."""

    def __init__(self, aggregation: Aggregation, head: nn.Module | None) -> None:
        super().__init__()
        self.aggregation = aggregation
        self.head = head

    def forward(self, scores: Sequence[Tensor | None]) -> Tensor:
        gathered = self.aggregation(scores, NO_SCORE)
        return gathered if self.head is None else self.head(gathered)


class DDNN(nn.Module):
    """Views of all devices, each [batch, channels, height, width] or None where one is away -> scores of each exit.

    The exits by name, in their order: "device 0", ..., "local", "edge" where there is one, "cloud"; each
    [batch, classes]. A device that is away has no exit.
    """

    def __init__(
        self,
        parts: Sequence[DevicePart],
        views: int,
        local: LocalPart,
        edge: LevelPart | None,
        cloud: LevelPart,
        input_shape: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.views = views
        self.local = local
        self.edge = edge
        self.cloud = cloud
        self.input_shape = input_shape
        """Channels, height and width of a view."""

    def device(self, index: int) -> DevicePart:
        """The part of one device, which may be that of all."""
        part = self.parts[index if len(self.parts) > 1 else 0]
        assert isinstance(part, DevicePart)
        return part

    def forward(self, *views: Tensor | None) -> dict[str, Tensor]:
        if len(views) != self.views:
            raise ValueError(f"DDNN: needs {self.views} views, None where a device is away; got {len(views)}")
        features: list[Tensor | None] = []
        scores: list[Tensor | None] = []
        for index, view in enumerate(views):
            seen, said = (None, None) if view is None else self.device(index)(view)
            features.append(seen)
            scores.append(said)
        exits = {device_exit(index): said for index, said in enumerate(scores) if said is not None}
        exits[LOCAL] = self.local(scores)
        if self.edge is not None:
            sent, exits[EDGE] = self.edge(features)
            features = [sent]
        exits[CLOUD] = self.cloud(features)[1]
        return exits


def ddnn(
    method: Method | None = None,
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    views: int,
    input_size: tuple[int, int],
    device_widths: tuple[int, ...] = (4, 8),
    local: Aggregation | None = None,
    edge: Level | None = None,
    cloud: Level | None = None,
    shared: bool = False,
    real_inputs: Method | None = None,
) -> DDNN:
    """A DDNN for `views` images of one example, each [batch, in_channels, *input_size].

    A block is conv 3x3 -> max pool 3x3 -> BN -> sign. Devices: blocks of `device_widths` whose pools halve the image,
    rounding up, then the exit, low-bit linear -> BN. Edge and cloud: blocks that keep its size (`Level.widths`), then
    such an exit. Signs between blocks are the method's; those that are sent are the paper's binary step, and the layers
    that read them have the method's weights (`OfSigns`). The first convolution of a device has real inputs.

    method: a Quantizer class or a partial of one; None: real weights and Hardtanh, where only what is sent is signs.
    local: how the devices' scores become those of the local exit; None: MP. CC goes through a linear layer and a norm,
    back to a score for each class. edge: None: there is none. cloud: None: Level().
    shared: all devices have the same weights, as in the authors' released Chainer code; otherwise each its own.
    real_inputs: a method for the layers whose inputs are real, those first convolutions and the linear layer of a local
    CC: one of `bittern.quant`, such as BWN (the paper's devices have binary weights). None: real weights.
    Convolutions start as He says, N(0, 2 / fan_in), or as their method does.

    Differences from the authors' code: the layer of a local CC has binary weights there and real inputs, as here with
    `real_inputs`. Its edge is commented out; here it is a level like the cloud, whose signs go on to the cloud.
    Raises: TypeError where a method is no class; ValueError for a size below 1, and for an aggregation of the cloud
    where an edge stands between.
    """
    height, width = _checked_size(input_size)
    cloud = Level() if cloud is None else cloud
    levels = (cloud,) if edge is None else (edge, cloud)
    widths = [*device_widths, *(width for level in levels for width in level.widths)]
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "views": views, "height": height, "width": width}
    check_arguments("ddnn", method, **sizes, **{f"width {i} of a block": size for i, size in enumerate(widths)})
    if real_inputs is not None:
        check_method("ddnn", real_inputs)
    if not device_widths or not all(level.widths for level in levels):
        raise ValueError("ddnn: devices, edge and cloud need a block each; got none in device_widths or Level.widths")
    if edge is not None and cloud.aggregation is not None:
        raise ValueError("ddnn: behind an edge the cloud has nothing to aggregate; leave out the aggregation of cloud")
    built = _Builder(method, real_inputs, num_classes, (height, width), len(device_widths))
    devices = [built.device(in_channels, device_widths) for _ in range(1 if shared else views)]
    middle = None if edge is None else built.level(edge, device_widths[-1], views, sends=True)
    before = (device_widths[-1], views) if edge is None else (edge.widths[-1], 1)
    top = built.level(cloud, *before, sends=False)
    gate = built.local(MaxPooling() if local is None else local, views)
    model = DDNN(devices, views, gate, middle, top, (in_channels, height, width))
    start_weights(model, HeNormal("in"))
    _materialize(model)
    return model


def _checked_size(input_size: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(input_size, tuple) or len(input_size) != 2:
        raise TypeError(f"ddnn: input_size must be (height, width) of a view; got {input_size!r}")
    return input_size


@dataclass(frozen=True)
class _Builder:
    """Makes the parts of one network."""

    method: Method | None
    real_inputs: Method | None
    classes: int
    size: tuple[int, int]
    halvings: int

    @property
    def of_signs(self) -> Method | None:
        return None if self.method is None else partial(OfSigns, method=self.method)

    def device(self, in_channels: int, widths: tuple[int, ...]) -> DevicePart:
        block = self._blocks(in_channels, widths, self.real_inputs, DEVICE_STRIDE, sends=True)
        return DevicePart(block, self._head(widths[-1], self.of_signs))

    def level(self, level: Level, each: int, devices: int, *, sends: bool) -> LevelPart:
        aggregation = Concatenation() if level.aggregation is None else level.aggregation
        channels = aggregation.channels(each, devices)
        block = self._blocks(channels, level.widths, self.of_signs, LEVEL_STRIDE, sends=sends)
        return LevelPart(aggregation, block, self._head(level.widths[-1], self.of_signs if sends else self.method))

    def local(self, aggregation: Aggregation, devices: int) -> LocalPart:
        if aggregation.keeps_size:
            return LocalPart(aggregation, None)
        back = linear(aggregation.channels(self.classes, devices), self.classes, self.real_inputs)
        return LocalPart(aggregation, nn.Sequential(back, nn.BatchNorm1d(self.classes)))

    def _blocks(
        self, channels: int, widths: tuple[int, ...], first: Method | None, stride: int, *, sends: bool
    ) -> nn.Sequential:
        layers: list[nn.Module] = []
        for index, width in enumerate(widths):
            if index and self.method is None:
                layers.append(nn.Hardtanh())
            layers.append(conv(channels, width, 3, 1, first if index == 0 else self.method))
            layers += [nn.MaxPool2d(POOL, stride, POOL_PADDING), nn.BatchNorm2d(width)]
            channels = width
        if sends:
            layers.append(BinaryStep())
        elif self.method is None:
            layers.append(nn.Hardtanh())
        return nn.Sequential(*layers)

    def _head(self, channels: int, method: Method | None) -> nn.Sequential:
        height, width = self.size
        for _ in range(self.halvings):
            height, width = (height + 1) // DEVICE_STRIDE, (width + 1) // DEVICE_STRIDE
        back = linear(channels * height * width, self.classes, method)
        return nn.Sequential(nn.Flatten(), back, nn.BatchNorm1d(self.classes))


def _materialize(model: DDNN) -> None:
    """Give parameters that depend on the size of an output (XNOR-Net++) that size, by one forward."""
    if any(is_lazy(parameter) for parameter in model.parameters()):
        with eval_mode(model), torch.no_grad():
            model(*[torch.zeros(1, *model.input_shape)] * model.views)
