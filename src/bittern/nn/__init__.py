# SPDX-License-Identifier: Apache-2.0
"""Low-bit layers, conversion of existing models, parameter groups, and the cost summary."""

from __future__ import annotations

from bittern.nn.activation import DPReLU, PowerOfTwoRPReLU, RPReLU, RSign
from bittern.nn.attention import MultiheadAttention
from bittern.nn.binarize import LowBitLayer
from bittern.nn.conv import BinaryConv1d, BinaryConv2d
from bittern.nn.convert import convert
from bittern.nn.cost import Cost, CostedLayer
from bittern.nn.decide import plan_conversion
from bittern.nn.embedding import StableEmbedding
from bittern.nn.frozen_norms import FrozenBatchNorm1d, FrozenBatchNorm2d, freeze_norms
from bittern.nn.half import HalfReport, HalfStored, HalfTensor, store_half
from bittern.nn.keep import DEFAULT_KEEP, Candidate, depthwise, first_and_last, shortcuts
from bittern.nn.linear import BinaryLinear
from bittern.nn.linear_4bit import Linear4bit
from bittern.nn.linear_8bit import Linear8bit
from bittern.nn.linear_groups import LinearGroups
from bittern.nn.linear_mxfp4 import LinearMXFP4
from bittern.nn.parameters import (
    clip_latent_weights,
    is_latent_free,
    is_latent_weight,
    parameter_groups,
    sign_latent_weights,
    start_latent_weights,
)
from bittern.nn.plan import Action, Plan, PlanRow
from bittern.nn.quantize import quantize
from bittern.nn.quantized_file import load_quantized, save_quantized
from bittern.nn.recurrent import GRU, LSTM, GRUCell, LSTMCell
from bittern.nn.sign_shares import ConstantInputWarning, SignShare, sign_shares
from bittern.nn.summary import Report, SummaryRow, summary
from bittern.nn.thermometer import Thermometer

__all__ = [
    "DEFAULT_KEEP",
    "GRU",
    "LSTM",
    "Action",
    "BinaryConv1d",
    "BinaryConv2d",
    "BinaryLinear",
    "Candidate",
    "ConstantInputWarning",
    "Cost",
    "CostedLayer",
    "DPReLU",
    "FrozenBatchNorm1d",
    "FrozenBatchNorm2d",
    "GRUCell",
    "HalfReport",
    "HalfStored",
    "HalfTensor",
    "LSTMCell",
    "Linear4bit",
    "Linear8bit",
    "LinearGroups",
    "LinearMXFP4",
    "LowBitLayer",
    "MultiheadAttention",
    "Plan",
    "PlanRow",
    "PowerOfTwoRPReLU",
    "RPReLU",
    "RSign",
    "Report",
    "SignShare",
    "StableEmbedding",
    "SummaryRow",
    "Thermometer",
    "clip_latent_weights",
    "convert",
    "depthwise",
    "first_and_last",
    "freeze_norms",
    "is_latent_free",
    "is_latent_weight",
    "load_quantized",
    "parameter_groups",
    "plan_conversion",
    "quantize",
    "save_quantized",
    "shortcuts",
    "sign_latent_weights",
    "sign_shares",
    "start_latent_weights",
    "store_half",
    "summary",
]
