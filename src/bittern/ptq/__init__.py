# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization: a trained network of floats becomes one of integers, from a few hundred inputs."""

from __future__ import annotations

from bittern.ptq.network import QuantizedLayer, QuantizedNetwork
from bittern.ptq.observers import (
    OBSERVERS,
    KullbackLeibler,
    LeastSquares,
    MinMax,
    MovingAverage,
    Observer,
    Percentile,
)
from bittern.ptq.quantize import Bits, quantize
from bittern.ptq.report import Report, Row
from bittern.ptq.steps import (
    Limits,
    channel_steps,
    input_limits,
    least_squares_channel_steps,
    scale_and_zero,
    weight_limits,
)

__all__ = [
    "OBSERVERS",
    "Bits",
    "KullbackLeibler",
    "LeastSquares",
    "Limits",
    "MinMax",
    "MovingAverage",
    "Observer",
    "Percentile",
    "QuantizedLayer",
    "QuantizedNetwork",
    "Report",
    "Row",
    "channel_steps",
    "input_limits",
    "least_squares_channel_steps",
    "quantize",
    "scale_and_zero",
    "weight_limits",
]
