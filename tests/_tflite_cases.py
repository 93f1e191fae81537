# SPDX-License-Identifier: Apache-2.0
"""Networks of one operator each, drawn from seeds: every operator that is read, in each of its ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from _tflite_files import Filed, Step, file_of

SAME, VALID = 0, 1
CONV_OPTIONS, DEPTHWISE_OPTIONS, POOL_OPTIONS, LINEAR_OPTIONS = 1, 2, 5, 8
SOFTMAX_OPTIONS, CONCATENATION_OPTIONS, ADD_OPTIONS, RESHAPE_OPTIONS = 9, 10, 11, 17
LEAKY_RELU_OPTIONS, GELU_OPTIONS, BATCH_MATMUL_OPTIONS = 75, 116, 101


@dataclass(frozen=True)
class Case:
    """A file, and inputs for it [count, ...]."""

    label: str
    make: Callable[[np.random.Generator], tuple[bytes, np.ndarray]]

    def __str__(self) -> str:
        return self.label

    def made(self) -> tuple[bytes, np.ndarray]:
        return self.make(np.random.default_rng(list(self.label.encode())))


def _scale(draw: np.random.Generator) -> float:
    return float(np.float32(np.exp(draw.uniform(-5, 0))))


def _zero(draw: np.random.Generator) -> int:
    return int(draw.integers(-128, 128))


def _int8(draw: np.random.Generator, *shape: int) -> np.ndarray:
    return draw.integers(-128, 128, shape).astype(np.int8)


def _weights(
    draw: np.random.Generator, x: Filed, shape: tuple[int, ...], channels: int, dim: int, each: bool, bias: bool
) -> list[Filed]:
    scales = [_scale(draw) / 16 for _ in range(channels if each else 1)]
    numbers = draw.integers(-127, 128, shape).astype(np.int8)
    found = [Filed(shape, "int8", scales, [0] * len(scales), dim, numbers)]
    if bias:
        data = draw.integers(-5000, 5000, channels).astype(np.int32)
        found.append(Filed((channels,), "int32", [x.scales[0] * s for s in scales], [0] * len(scales), 0, data))
    return found


def _out(draw: np.random.Generator, shape: tuple[int, ...], x: Filed, weight: Filed, terms: int) -> Filed:
    """A result whose scale lets most of the sums through, and cuts some."""
    spread = x.scales[0] * float(np.mean(weight.scales)) * 74 * 74 * terms**0.5
    return Filed(shape, "int8", [float(np.float32(spread * draw.uniform(1, 3) / 128))], [_zero(draw)])


def _size(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    reach = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == SAME else (size - reach) // stride + 1


def conv(
    padding: int,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    activation: int,
    *,
    each: bool = True,
    depthwise: int = 0,
    groups: int = 1,
) -> Callable[[np.random.Generator], tuple[bytes, np.ndarray]]:
    """depthwise: outputs an input; 0: an ordinary convolution, of `groups`."""

    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        height, width, channels, kernel = 9, 8, 6, (3, 2)
        outputs = channels * depthwise or 8 if groups == 1 else 9
        x = Filed((1, height, width, channels), "int8", [_scale(draw)], [_zero(draw)])
        shape = (1, *kernel, outputs) if depthwise else (outputs, *kernel, channels // groups)
        weight, *rest = _weights(draw, x, shape, outputs, 3 if depthwise else 0, each, True)
        sizes = [
            _size(n, k, s, d, padding) for n, k, s, d in zip((height, width), kernel, stride, dilation, strict=True)
        ]
        terms = kernel[0] * kernel[1] * (1 if depthwise else channels)
        tensors = [x, weight, *rest, _out(draw, (1, *sizes, outputs), x, weight, terms)]
        options = {0: ("b", padding), 1: ("i", stride[1]), 2: ("i", stride[0])}
        if depthwise:
            options |= {3: ("i", depthwise), 4: ("b", activation), 5: ("i", dilation[1]), 6: ("i", dilation[0])}
        else:
            options |= {3: ("b", activation), 4: ("i", dilation[1]), 5: ("i", dilation[0])}
        name, kind = ("DEPTHWISE_CONV_2D", DEPTHWISE_OPTIONS) if depthwise else ("CONV_2D", CONV_OPTIONS)
        last = len(tensors) - 1
        step = Step(name, range(last), [last], options, kind)
        return file_of(tensors, [step], [0], [last]), _int8(draw, 6, height, width, channels)

    return make


def linear(*, each: bool, bias: bool, activation: int = 0) -> Callable[[np.random.Generator], tuple[bytes, np.ndarray]]:
    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        x = Filed((1, 33), "int8", [_scale(draw)], [_zero(draw)])
        weight, *rest = _weights(draw, x, (20, 33), 20, 0, each, bias)
        tensors = [x, weight, *rest, _out(draw, (1, 20), x, weight, 33)]
        last = len(tensors) - 1
        inputs = [*range(last), *([] if bias else [-1])]
        step = Step("FULLY_CONNECTED", inputs, [last], {0: ("b", activation)}, LINEAR_OPTIONS)
        return file_of(tensors, [step], [0], [last]), _int8(draw, 200, 33)

    return make


def pool(
    name: str, padding: int, kernel: tuple[int, int], stride: tuple[int, int], activation: int = 0
) -> Callable[[np.random.Generator], tuple[bytes, np.ndarray]]:
    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        scale, zero = [_scale(draw)], [_zero(draw)]
        sizes = [_size(n, k, s, 1, padding) for n, k, s in zip((9, 8), kernel, stride, strict=True)]
        tensors = [Filed((1, 9, 8, 5), "int8", scale, zero), Filed((1, *sizes, 5), "int8", scale, zero)]
        options = {0: ("b", padding), 1: ("i", stride[1]), 2: ("i", stride[0])}
        options |= {3: ("i", kernel[1]), 4: ("i", kernel[0]), 5: ("b", activation)}
        return file_of(tensors, [Step(name, [0], [1], options, POOL_OPTIONS)], [0], [1]), _int8(draw, 8, 9, 8, 5)

    return make


def add(activation: int) -> Callable[[np.random.Generator], tuple[bytes, np.ndarray]]:
    """Of an input and the same in another scale, so that one input makes two."""

    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        shape = (1, 5, 4, 3)
        scales = [_scale(draw) for _ in range(2)]
        scales.append(max(scales) * draw.uniform(0.8, 2.0))
        tensors = [Filed(shape, "int8", [scale], [_zero(draw)]) for scale in scales]
        steps = [Step("QUANTIZE", [0], [1]), Step("ADD", [0, 1], [2], {0: ("b", activation)}, ADD_OPTIONS)]
        return file_of(tensors, steps, [0], [2]), _int8(draw, 20, *shape[1:])

    return make


def softmax(scale: float, beta: float, answers: int) -> Callable[[np.random.Generator], tuple[bytes, np.ndarray]]:
    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        tensors = [
            Filed((1, answers), "int8", [scale], [_zero(draw)]),
            Filed((1, answers), "int8", [1 / 256], [-128]),
        ]
        x = _int8(draw, 100, answers)
        x[:50] //= 8
        step = Step("SOFTMAX", [0], [1], {0: ("f", beta)}, SOFTMAX_OPTIONS)
        return file_of(tensors, [step], [0], [1]), x

    return make


def rows_of_softmax(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
    """Rows along the last dimension of several."""
    tensors = [Filed((1, 3, 2, 9), "int8", [0.07], [_zero(draw)]), Filed((1, 3, 2, 9), "int8", [1 / 256], [-128])]
    step = Step("SOFTMAX", [0], [1], {0: ("f", 1.0)}, SOFTMAX_OPTIONS)
    return file_of(tensors, [step], [0], [1]), _int8(draw, 20, 3, 2, 9)


def matmul(turned: tuple[bool, bool]) -> Callable[[np.random.Generator], tuple[bytes, np.ndarray]]:
    """Of an input and the same in another scale, either of which may be read transposed; factors of both sizes."""

    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        rows, inner = (5, 5) if turned[0] == turned[1] else (5, 7)
        ends = [Filed((1, 3, rows, inner), "int8", [_scale(draw)], [_zero(draw)]) for _ in range(2)]
        scale = ends[0].scales[0] * ends[1].scales[0] * 90 * 90 * inner**0.5 * draw.uniform(0.5, 1) / 128
        side = inner if turned[0] else rows
        ends.append(Filed((1, 3, side, side), "int8", [float(np.float32(scale))], [_zero(draw)]))
        options = {field: ("?", flag) for field, flag in enumerate(turned)}
        steps = [Step("QUANTIZE", [0], [1]), Step("BATCH_MATMUL", [0, 1], [2], options, BATCH_MATMUL_OPTIONS)]
        return file_of(ends, steps, [0], [2]), _int8(draw, 40, 3, rows, inner)

    return make


def conversion(kind: str) -> Callable[[np.random.Generator], tuple[bytes, np.ndarray]]:
    """ "real": to int8; "int8": to another scale; "back": to real numbers."""

    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        shape = (1, 7, 9)
        ends = [Filed(shape, "int8", [_scale(draw)], [_zero(draw)]) for _ in range(2)]
        x: np.ndarray = _int8(draw, 20, *shape[1:])
        if kind == "real":
            ends[0] = Filed(shape, "float32", [], [])
            x = (draw.integers(-300, 300, x.shape) * 0.5 * ends[1].scales[0]).astype(np.float32)
            x[10:] += draw.standard_normal(x[10:].shape).astype(np.float32)
        if kind == "back":
            ends[1] = Filed(shape, "float32", [], [])
        name = "DEQUANTIZE" if kind == "back" else "QUANTIZE"
        return file_of(ends, [Step(name, [0], [1])], [0], [1]), x

    return make


def unary(
    name: str, options: dict[int, tuple[str, float | bool]] | None = None, kind: int = 0, out: Filed | None = None
) -> Callable[[np.random.Generator], tuple[bytes, np.ndarray]]:
    """Every int8; out: a result of this scale and zero point."""

    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        scale = _scale(draw)
        own = out or Filed((1, 256), "int8", [float(np.float32(scale * draw.uniform(0.3, 3)))], [_zero(draw)])
        tensors = [Filed((1, 256), "int8", [scale], [_zero(draw)]), own]
        x: np.ndarray = np.arange(-128, 128).astype(np.int8)[None]
        return file_of(tensors, [Step(name, [0], [1], options or {}, kind)], [0], [1]), x

    return make


def _activations() -> Iterator[Case]:
    yield Case("logistic", unary("LOGISTIC", out=Filed((1, 256), "int8", [1 / 256], [-128])))
    yield Case("tanh", unary("TANH", out=Filed((1, 256), "int8", [1 / 128], [0])))
    yield Case("leaky_relu", unary("LEAKY_RELU", {0: ("f", 0.3)}, LEAKY_RELU_OPTIONS))
    for approximate in (False, True):
        yield Case(f"gelu-{approximate=}", unary("GELU", {0: ("?", approximate)}, GELU_OPTIONS))
    for name in ("EXP", "HARD_SWISH", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "ABS"):
        yield Case(name.lower(), unary(name))


def joined(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
    """PAD, CONCATENATION and RESHAPE behind each other, and a max pool between that turns images."""
    scale, zero = [_scale(draw)], [_zero(draw)]

    def filed(*shape: int) -> Filed:
        return Filed(shape, "int8", scale, zero)

    amounts = Filed((4, 2), "int32", [], [], 0, np.array([[0, 0], [1, 0], [2, 1], [0, 0]], np.int32))
    tensors = [filed(1, 4, 5, 3), filed(1, 5, 8, 3), amounts, filed(1, 5, 8, 3), filed(1, 5, 8, 6), filed(1, 240)]
    pooled = {0: ("b", SAME), 1: ("i", 1), 2: ("i", 1), 3: ("i", 3), 4: ("i", 3)}
    steps = [
        Step("PAD", [0, 2], [1]),
        Step("MAX_POOL_2D", [1], [3], pooled, POOL_OPTIONS),
        Step("CONCATENATION", [1, 3], [4], {0: ("i", -1)}, CONCATENATION_OPTIONS),
        Step("RESHAPE", [4], [5], {0: np.array([1, 240], "<i4")}, RESHAPE_OPTIONS),
    ]
    return file_of(tensors, steps, [0], [5]), _int8(draw, 5, 4, 5, 3)


def cases() -> Iterator[Case]:
    for padding in (SAME, VALID):
        name = ("same", "valid")[padding]
        for stride, dilation in (((1, 1), (1, 1)), ((2, 1), (1, 1)), ((2, 3), (1, 1)), ((1, 1), (2, 3))):
            label = f"{name}-stride{stride[0]}{stride[1]}-dilation{dilation[0]}{dilation[1]}"
            yield Case(f"conv-{label}", conv(padding, stride, dilation, 0))
            yield Case(f"depthwise-{label}", conv(padding, stride, dilation, 1, depthwise=1))
        for kernel, stride in (((2, 2), (2, 2)), ((3, 2), (1, 2)), ((9, 8), (1, 1))):
            for pooled in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
                label = f"{pooled.lower()}-{name}-{kernel[0]}{kernel[1]}-stride{stride[0]}{stride[1]}"
                yield Case(label, pool(pooled, padding, kernel, stride))
    for activation in range(1, 4):
        yield Case(f"conv-activation{activation}", conv(SAME, (1, 1), (1, 1), activation))
        yield Case(f"linear-activation{activation}", linear(each=False, bias=True, activation=activation))
        yield Case(f"average-activation{activation}", pool("AVERAGE_POOL_2D", SAME, (2, 2), (1, 1), activation))
    for activation in range(4):
        yield Case(f"add-activation{activation}", add(activation))
    for each in (False, True):
        for bias in (False, True):
            label = f"{'scales' if each else 'one scale'}-{'bias' if bias else 'no bias'}"
            yield Case(f"linear-{label}", linear(each=each, bias=bias))
        yield Case(f"conv-{each=}", conv(VALID, (1, 1), (1, 1), 0, each=each))
    yield Case("depthwise-multiplier", conv(SAME, (1, 1), (1, 1), 0, depthwise=3))
    yield Case("conv-groups", conv(SAME, (1, 1), (1, 1), 0, groups=3))
    for scale, beta, answers in ((0.1, 1.0, 10), (0.01, 1.0, 1), (1.5, 1.0, 1000), (0.2, 2.5, 33), (0.003, 1.0, 4)):
        yield Case(f"softmax-{scale}-{beta}-{answers}", softmax(scale, beta, answers))
    yield Case("softmax-rows", rows_of_softmax)
    for turned in ((False, False), (False, True), (True, False), (True, True)):
        yield Case(f"matmul-{turned[0]}-{turned[1]}", matmul(turned))
    for kind in ("real", "int8", "back"):
        yield Case(f"conversion-{kind}", conversion(kind))
    yield Case("joined", joined)
    yield from _activations()
