# SPDX-License-Identifier: Apache-2.0
"""Networks of functions of two values, means, transposed convolutions, and of float32, one operator each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from _tflite_cases import Case
from _tflite_files import Filed, Step, file_of

SHAPE = (1, 5, 4, 6)
OPTIONS = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 2,
    "AVERAGE_POOL_2D": 5,
    "MAX_POOL_2D": 5,
    "FULLY_CONNECTED": 8,
    "SOFTMAX": 9,
    "ADD": 11,
    "MUL": 21,
    "MEAN": 27,
    "SUB": 28,
    "DIV": 29,
    "MAXIMUM": 39,
    "MINIMUM": 39,
    "TRANSPOSE_CONV": 49,
    "LEAKY_RELU": 75,
    "GELU": 116,
}
"""The number of the options of an operator."""
Make = Callable[[np.random.Generator], tuple[bytes, np.ndarray]]


class Draw:
    """Tensors of one type, int8 with scales of their own or float32."""

    def __init__(self, kind: str, draw: np.random.Generator) -> None:
        self.kind, self.draw = kind, draw

    def scale(self) -> float:
        return float(np.float32(np.exp(self.draw.uniform(-5, 0))))

    def filed(self, shape: Sequence[int], scale: float | None = None, zero: int | None = None) -> Filed:
        if self.kind == "float32":
            return Filed(shape, "float32", [], [])
        own = self.scale() if scale is None else scale
        return Filed(shape, "int8", [own], [int(self.draw.integers(-128, 128)) if zero is None else zero])

    def numbers(self, *shape: int) -> np.ndarray:
        if self.kind == "float32":
            found: np.ndarray = self.draw.standard_normal(shape).astype(np.float32)
            return found
        return self.draw.integers(-128, 128, shape).astype(np.int8)

    def constant(self, *shape: int, zero: int | None = None) -> Filed:
        found = self.filed(shape, None, zero)
        found.data = self.numbers(*shape)
        return found


def whole(*values: int) -> Filed:
    return Filed((len(values),), "int32", [], [], 0, np.array(values, np.int32))


def pair(name: str, kind: str, fixed: tuple[int, ...] | None, *, first: bool = False, activation: int = 0) -> Make:
    """fixed: the shape of numbers of the file; None: two computed values."""

    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        d = Draw(kind, draw)
        same = name in ("MAXIMUM", "MINIMUM")
        x = d.filed(SHAPE)
        other = d.filed(SHAPE) if fixed is None else d.constant(*fixed)
        out = d.filed(SHAPE)
        if kind == "int8":
            if same:
                other.scales, other.zeros, out.scales, out.zeros = x.scales, x.zeros, x.scales, x.zeros
            elif name == "MUL":
                out.scales = [float(np.float32(x.scales[0] * other.scales[0] * 100))]
            else:
                out.scales = [float(np.float32(max(x.scales[0], other.scales[0]) * 1.3))]
        order = [1, 0] if first else [0, 1]
        options = {} if same else {0: ("b", activation)}
        steps = [Step(name, order, [2], options, OPTIONS[name])]
        if fixed is None:
            steps.insert(0, Step("RELU", [0], [1], {}))
        return file_of([x, other, out], steps, [0], [2]), d.numbers(8, *SHAPE[1:])

    return make


def mean(kind: str, axes: Sequence[int], keep: bool) -> Make:
    """Of an image with channels first if it keeps its dimensions."""

    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        d = Draw(kind, draw)
        x, middle = d.filed(SHAPE), d.filed(SHAPE)
        middle.scales, middle.zeros = x.scales, x.zeros
        shape = [1 if axis in axes else n for axis, n in enumerate(SHAPE) if keep or axis not in axes]
        out = d.filed(shape, x.scales[0] * 0.6, x.zeros[0] // 2) if x.scales else d.filed(shape)
        window = {0: ("b", 0), 1: ("i", 1), 2: ("i", 1), 3: ("i", 2), 4: ("i", 2)}
        pool = Step("MAX_POOL_2D", [0], [1], window, OPTIONS["MAX_POOL_2D"])
        step = Step("MEAN", [1, 2], [3], {0: ("?", keep)}, OPTIONS["MEAN"])
        return file_of([x, middle, whole(*axes), out], [pool, step], [0], [3]), d.numbers(8, *SHAPE[1:])

    return make


def prelu(kind: str, slopes: int) -> Make:
    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        d = Draw(kind, draw)
        tensors = [d.filed(SHAPE), d.constant(1, 1, slopes), d.filed(SHAPE)]
        if kind == "int8":
            tensors[1].scales, tensors[2].scales = [0.01], [float(np.float32(tensors[0].scales[0] * 1.1))]
        return file_of(tensors, [Step("PRELU", [0, 1], [2], None)], [0], [2]), d.numbers(8, *SHAPE[1:])

    return make


def transposed(kind: str, padding: int, stride: tuple[int, int], bias: bool) -> Make:
    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        d, outputs, kernel = Draw(kind, draw), 3, (3, 2)
        sizes = [n * s if padding == 0 else (n - 1) * s + k for n, s, k in zip((5, 4), stride, kernel, strict=True)]
        x, weight, shape = d.filed(SHAPE), d.constant(outputs, *kernel, 6, zero=0), (1, *sizes, outputs)
        out = d.filed(shape)
        row = Filed((outputs,), "float32", [], [], 0, np.ones(outputs, np.float32))
        if kind == "int8":
            weight.scales, weight.zeros = [float(np.float32(d.scale() / 16)) for _ in range(outputs)], [0] * outputs
            out.scales = [float(np.float32(x.scales[0] * np.mean(weight.scales) * 74 * 74 * 4 / 60))]
            numbers = draw.integers(-5000, 5000, outputs).astype(np.int32)
            row = Filed((outputs,), "int32", [x.scales[0] * s for s in weight.scales], [0] * outputs, 0, numbers)
        options = {0: ("b", padding), 1: ("i", stride[1]), 2: ("i", stride[0])}
        inputs = [1, 2, 0, *([3] if bias else [])]
        step = Step("TRANSPOSE_CONV", inputs, [4], options, OPTIONS["TRANSPOSE_CONV"])
        return file_of([x, whole(*shape), weight, row, out], [step], [0], [4]), d.numbers(4, *SHAPE[1:])

    return make


def more(kind: str) -> Iterator[Case]:
    """Of int8 or float32: functions of two values, means, PReLU and transposed convolutions."""
    for name in ("SUB", "MUL", "MAXIMUM", "MINIMUM"):
        yield Case(f"{name.lower()}-{kind}", pair(name, kind, None))
    for name in ("ADD", "SUB", "MUL"):
        yield Case(f"{name.lower()}-channels-{kind}", pair(name, kind, (6,), activation=1))
    yield Case(f"sub-from-number-{kind}", pair("SUB", kind, (1,), first=True))
    yield Case(f"maximum-number-{kind}", pair("MAXIMUM", kind, (1, 1)))
    for axes, keep in (((1, 2), True), ((1, 2), False), ((3,), True), ((1, 3), False)):
        yield Case(f"mean-{axes}-{keep}-{kind}", mean(kind, axes, keep))
    if kind == "int8":
        yield Case("chain", chain)
    for slopes in (1, 6):
        yield Case(f"prelu-{slopes}-{kind}", prelu(kind, slopes))
    for padding, stride, bias in ((0, (2, 2), True), (1, (2, 3), False), (0, (1, 1), True)):
        yield Case(f"transposed-{padding}-{stride}-{kind}", transposed(kind, padding, stride, bias))


def chain(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
    """All of these behind each other, of int8."""
    d = Draw("int8", draw)
    plain = Filed(SHAPE, "int8", [0.05], [3])
    net = [plain, Filed(SHAPE, "int8", [0.04], [-90]), Filed(SHAPE, "int8", [0.07], [40])]
    net += [Filed(SHAPE, "int8", [0.3], [-9])] * 4
    slopes, sizes = d.constant(1, 1, 6, zero=5), [whole(10, 8), whole(1, 20, 8, 3)]
    slopes.scales = [0.02]
    weight, row = d.constant(3, 2, 3, 6, zero=0), Filed((3,), "int32", [], [], 0, np.array([900, -77, 3], np.int32))
    weight.scales, weight.zeros = [0.01, 0.02, 0.015], [0] * 3
    shapes = (SHAPE, (1, 10, 8, 6), (1, 20, 8, 3), (1, 9, 8, 3), (1, 9, 1, 3))
    grids = zip(shapes, (0.25, 0.25, 3.1, 3.1, 1.9), (-7, -7, 11, 11, 2), strict=True)
    net += [Filed(shape, "int8", [scale], [zero]) for shape, scale, zero in grids]
    net += [slopes, sizes[0], sizes[1], weight, row, whole(0, 1, 0, 0), whole(1, 19, 8, 3), whole(1, 2, 1, 1), whole(2)]
    two, three = {0: ("b", 0)}, {0: ("b", 0), 1: ("i", 1), 2: ("i", 2)}
    steps = [
        Step("RELU", [0], [1], {}),
        Step("SUB", [0, 1], [2], two, OPTIONS["SUB"]),
        Step("MUL", [2, 0], [3], two, OPTIONS["MUL"]),
        Step("RELU6", [3], [4], {}),
        Step("MAXIMUM", [3, 4], [5], {}, OPTIONS["MAXIMUM"]),
        Step("MINIMUM", [5, 3], [6], {}, OPTIONS["MINIMUM"]),
        Step("PRELU", [6, 12], [7], None),
        Step("RESIZE_NEAREST_NEIGHBOR", [7, 13], [8], {}, 74),
        Step("TRANSPOSE_CONV", [14, 15, 8, 16], [9], three, OPTIONS["TRANSPOSE_CONV"]),
        Step("STRIDED_SLICE", [9, 17, 18, 19], [10], {}, 32),
        Step("MEAN", [10, 20], [11], {0: ("?", True)}, OPTIONS["MEAN"]),
    ]
    return file_of(net, steps, [0], [11]), d.numbers(8, *SHAPE[1:])


# -- float32 alone -------------------------------------------------------------------------------------------------


def layer(
    name: str, shapes: Sequence[tuple[int, ...]], options: dict[int, object], out: tuple[int, ...], rows: bool = False
) -> Make:
    """One operator with weights of these shapes, of an image or of rows."""

    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        d = Draw("float32", draw)
        x = (1, 6) if rows else SHAPE
        tensors = [d.filed(x), *(d.constant(*shape) for shape in shapes), d.filed(out)]
        last = len(tensors) - 1
        step = Step(name, range(last), [last], options, OPTIONS.get(name, 0))
        return file_of(tensors, [step], [0], [last]), d.numbers(5, *x[1:])

    return make


def reals() -> Iterator[Case]:
    same, stride = {0: ("b", 0)}, {1: ("i", 1), 2: ("i", 2)}
    yield Case("conv-real", layer("CONV_2D", [(7, 3, 2, 6), (7,)], {**same, **stride, 3: ("b", 3)}, (1, 3, 4, 7)))
    yield Case(
        "conv-even-real", layer("CONV_2D", [(7, 3, 3, 6), (7,)], {**same, 1: ("i", 1), 2: ("i", 1)}, (1, 5, 4, 7))
    )
    valid = {0: ("b", 1), 1: ("i", 1), 2: ("i", 1), 3: ("i", 2), 4: ("b", 1)}
    yield Case("depthwise-real", layer("DEPTHWISE_CONV_2D", [(1, 2, 2, 12), (12,)], valid, (1, 4, 3, 12)))
    yield Case("linear-real", layer("FULLY_CONNECTED", [(9, 6), (9,)], {0: ("b", 2)}, (1, 9), True))
    for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        for padding, size in ((0, (3, 2)), (1, (2, 2))):
            window = {0: ("b", padding), 1: ("i", 2), 2: ("i", 2), 3: ("i", 2), 4: ("i", 2)}
            yield Case(f"{name.lower()}-{padding}-real", layer(name, [], window, (1, *size, 6)))
    yield Case("softmax-real", layer("SOFTMAX", [], {0: ("f", 1.5)}, (1, 6), True))
    yield Case("leaky-real", layer("LEAKY_RELU", [], {0: ("f", 0.2)}, SHAPE))
    yield Case("gelu-real", layer("GELU", [], {0: ("?", True)}, SHAPE))
    for name in ("LOGISTIC", "TANH", "HARD_SWISH", "RELU_N1_TO_1"):
        yield Case(f"{name.lower()}-real", layer(name, [], {}, SHAPE))
    yield Case("div-real", pair("DIV", "float32", (6,)))
