# SPDX-License-Identifier: Apache-2.0
"""Networks of one LSTM of int8 with an int16 cell state, and of one with layers around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from _tflite_cases import Case
from _tflite_files import Filed, Step, file_of

LSTM_OPTIONS, LINEAR_OPTIONS, STRIDED_SLICE_OPTIONS = 71, 8, 32
NAME = "UNIDIRECTIONAL_SEQUENCE_LSTM"
TANH = 4
NONE = -1


def lstm_tensors(
    draw: np.random.Generator, steps: int, features: int, hidden: int, exponent: int, spread: float
) -> tuple[list[Filed], list[int], list[int]]:
    """(tensors, those that the operator reads, its intermediates): input first, result last."""

    def weight(columns: int) -> Filed:
        scale = float(np.float32(spread * draw.uniform(0.5, 1.5) / 127))
        return Filed((hidden, columns), "int8", [scale], [0], 0, draw.integers(-127, 128, (hidden, columns), np.int8))

    scales = [float(np.float32(draw.uniform(*ends))) for ends in ((0.01, 0.03), (0.004, 0.008))]
    x = Filed((1, steps, features), "int8", scales[:1], [int(draw.integers(-128, 128))])
    out = Filed((1, steps, hidden), "int8", scales[1:], [int(draw.integers(-30, 30))])
    tensors, inputs = [x], [0]
    for columns in (features, hidden):
        for _ in range(4):
            inputs.append(len(tensors))
            tensors.append(weight(columns))
    inputs += [NONE] * 3
    for gate in range(4):
        scale = float(np.float32(x.scales[0]) * np.float32(tensors[1 + gate].scales[0]))
        data = draw.integers(-round(0.5 / scale), round(0.5 / scale) + 1, hidden).astype(np.int32)
        inputs.append(len(tensors))
        tensors.append(Filed((hidden,), "int32", [scale], [0], 0, data))
    inputs += [NONE] * 2
    inputs += [len(tensors), len(tensors) + 1]
    tensors.append(Filed((1, hidden), "int8", out.scales, out.zeros, variable=True))
    tensors.append(Filed((1, hidden), "int16", [2.0**exponent], [0], variable=True))
    inputs += [NONE] * 4
    intermediates = list(range(len(tensors), len(tensors) + 5))
    tensors += [Filed((1,), "int16", [2.0**-12], [0]) for _ in range(4)]
    tensors += [Filed((1,), "int8", out.scales, out.zeros), out]
    return tensors, inputs, intermediates


def options(clip: float) -> dict[int, tuple[str, float]]:
    return {0: ("b", TANH), 1: ("f", clip)}


def lstm(steps: int, features: int, hidden: int, exponent: int, clip: float, spread: float) -> Case:
    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        tensors, inputs, intermediates = lstm_tensors(draw, steps, features, hidden, exponent, spread)
        step = Step(NAME, inputs, [len(tensors) - 1], options(clip), LSTM_OPTIONS, intermediates=intermediates)
        data = file_of(tensors, [step], [0], [len(tensors) - 1])
        return data, draw.integers(-128, 128, (40, steps, features)).astype(np.int8)

    return Case(f"lstm-{steps}-{features}-{hidden}-2^{exponent}-clip{clip}-{spread}", make)


def stacked(sizes: Sequence[int], steps: int) -> Case:
    """LSTMs one behind the other, the last step of which goes through a linear layer."""

    def make(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
        tensors: list[Filed] = []
        made: list[Step] = []
        for features, hidden in pairwise(sizes):
            own, inputs, intermediates = lstm_tensors(draw, steps, features, hidden, -11, 1.0)
            start = max(len(tensors) - 1, 0)
            if tensors:
                own[0] = tensors.pop()
                for gate in range(4):
                    own[9 + gate].scales = [float(np.float32(own[0].scales[0]) * np.float32(own[1 + gate].scales[0]))]
            moved = [[place + start if place >= 0 else NONE for place in places] for places in (inputs, intermediates)]
            tensors += own
            made.append(Step(NAME, moved[0], [len(tensors) - 1], options(0.0), LSTM_OPTIONS, intermediates=moved[1]))
        last, hidden, place = tensors[-1], sizes[-1], len(tensors)
        bounds = [np.array(part, np.int32) for part in ([0, steps - 1, 0], [1, steps, hidden], [1, 1, 1])]
        tensors += [Filed((3,), "int32", [], [], 0, part) for part in bounds]
        tensors.append(Filed((1, hidden), "int8", last.scales, last.zeros))
        read = [place - 1, place, place + 1, place + 2]
        made.append(Step("STRIDED_SLICE", read, [place + 3], {4: ("i", 2)}, STRIDED_SLICE_OPTIONS))
        weight = draw.integers(-127, 128, (4, hidden)).astype(np.int8)
        tensors += [Filed((4, hidden), "int8", [0.02], [0], 0, weight), Filed((1, 4), "int8", [0.05], [3])]
        made.append(Step("FULLY_CONNECTED", [place + 3, place + 4, NONE], [place + 5], {}, LINEAR_OPTIONS))
        data = file_of(tensors, made, [0], [place + 5])
        return data, draw.integers(-128, 128, (40, steps, sizes[0])).astype(np.int8)

    return Case("lstm-stacked-" + "-".join(map(str, sizes)), make)


def recurrent() -> Iterator[Case]:
    """Sizes odd and even, every scale of a state, gates that saturate, and a clip that holds."""
    for exponent in range(-15, -8):
        yield lstm(9, 5, 7, exponent, 0.0, 1.0)
    yield lstm(1, 1, 1, -11, 0.0, 1.0)
    yield lstm(20, 33, 16, -11, 0.0, 4.0)
    yield lstm(12, 8, 20, -11, 0.25, 2.0)
    yield lstm(49, 10, 32, -12, 0.0, 0.5)
    yield stacked((6, 9, 5), 8)
