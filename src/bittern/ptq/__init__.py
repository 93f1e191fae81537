# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization: a trained network of floats becomes one of integers, from a few hundred inputs."""

from __future__ import annotations

from bittern.ptq.adaround import adaround
from bittern.ptq.bias_correction import analytic_correction, cut_normal_mean, empirical_correction
from bittern.ptq.bit_widths import Choice, choose_bits, ristretto_bits
from bittern.ptq.budget import Budget, Floor
from bittern.ptq.equalize import Equalized, Layer, absorb_high_bias, absorbed_bias, equalize
from bittern.ptq.learned import BRECQ, AdaRound, QDrop
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
from bittern.ptq.reconstruct import Point, Reconstructed, Schedule, reconstruct
from bittern.ptq.report import Report, RoundedBlock, Row, Spent
from bittern.ptq.sensitivity import noise_to_signal, sensitivities, signal_to_noise_db
from bittern.ptq.soft_rounding import Weight
from bittern.ptq.steps import (
    Limits,
    channel_steps,
    input_limits,
    least_squares_channel_steps,
    scale_and_zero,
    weight_limits,
)

__all__ = [
    "BRECQ",
    "OBSERVERS",
    "AdaRound",
    "Bits",
    "Budget",
    "Choice",
    "Equalized",
    "Floor",
    "KullbackLeibler",
    "Layer",
    "LeastSquares",
    "Limits",
    "MinMax",
    "MovingAverage",
    "Observer",
    "Percentile",
    "Point",
    "QDrop",
    "QuantizedLayer",
    "QuantizedNetwork",
    "Reconstructed",
    "Report",
    "RoundedBlock",
    "Row",
    "Schedule",
    "Spent",
    "Weight",
    "absorb_high_bias",
    "absorbed_bias",
    "adaround",
    "analytic_correction",
    "channel_steps",
    "choose_bits",
    "cut_normal_mean",
    "empirical_correction",
    "equalize",
    "input_limits",
    "least_squares_channel_steps",
    "noise_to_signal",
    "quantize",
    "reconstruct",
    "ristretto_bits",
    "scale_and_zero",
    "sensitivities",
    "signal_to_noise_db",
    "weight_limits",
]
