# SPDX-License-Identifier: Apache-2.0
"""Networks of the binary literature; each takes its method as an object: `resnet20_cifar(method=ReCU)`.

Each is a function to its answers, and `feature_maps(x)` gives what it makes of x on the way: a tuple of tensors, one
for each size of image (or for each block, where tokens, points or rows have one size), from fine to coarse; the last is
what the head sees. `Backbone(model, example)` is the same as a module, for detectors, distillation and transfer.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from bittern.models.ab_resnet import ab_resnet18
from bittern.models.aggregation import Aggregation, AveragePooling, Concatenation, MaxPooling
from bittern.models.alexnet import alexnet
from bittern.models.backbone import Backbone, HasFeatureMaps
from bittern.models.binary_densenet import (
    binary_densenet28,
    binary_densenet37,
    binary_densenet37_dilated,
    binary_densenet45,
)
from bittern.models.binary_vit import binary_vit_small
from bittern.models.bireal_net import bireal_net18, bireal_net34
from bittern.models.bnext import bnext_large, bnext_middle, bnext_small, bnext_tiny
from bittern.models.cell_detector import cell_detector
from bittern.models.ddnn import DDNN, Level, ddnn
from bittern.models.ds_cnn import ds_cnn
from bittern.models.expert_conv import ExpertConv2d
from bittern.models.language import GPT, GPTShape, LSTMLanguageModel, RecurrentLanguageModel
from bittern.models.melius_net import (
    meliusnet22,
    meliusnet29,
    meliusnet42,
    meliusnet59,
    meliusnet_a,
    meliusnet_b,
    meliusnet_c,
)
from bittern.models.mixer import mixer_small
from bittern.models.mlp import mlp
from bittern.models.nin import nin
from bittern.models.point_net import point_net
from bittern.models.poke_bnn import pokebnn_1x, pokebnn_2x, pokebnn_half
from bittern.models.quick_net import quicknet, quicknet_large, quicknet_small
from bittern.models.reactnet_a import react_resnet18, reactnet_a
from bittern.models.real_to_binary_net import real_to_binary_net
from bittern.models.resnet_cifar import resnet18_cifar, resnet20_cifar
from bittern.models.resnet_e import resnet_e18, resnet_e34
from bittern.models.series_cnn import series_cnn
from bittern.models.text_encoder import text_encoder
from bittern.models.vgg7 import vgg7
from bittern.models.vgg_small import vgg_small
from bittern.models.vit import vit_small

ALL: tuple[Callable[..., nn.Module], ...] = (
    mlp,
    resnet20_cifar,
    resnet18_cifar,
    vgg_small,
    bireal_net18,
    bireal_net34,
    reactnet_a,
    react_resnet18,
    binary_densenet28,
    binary_densenet37,
    binary_densenet37_dilated,
    binary_densenet45,
    meliusnet22,
    meliusnet29,
    meliusnet42,
    meliusnet59,
    meliusnet_a,
    meliusnet_b,
    meliusnet_c,
    quicknet_small,
    quicknet,
    quicknet_large,
    resnet_e18,
    resnet_e34,
    alexnet,
    nin,
    bnext_tiny,
    bnext_small,
    bnext_middle,
    bnext_large,
    pokebnn_half,
    pokebnn_1x,
    pokebnn_2x,
    real_to_binary_net,
)
"""Networks for images, of convolutions, and the MLP: each a function (method=None, num_classes, in_channels, *,
input_size) -> nn.Module."""

OF_PATCHES: tuple[Callable[..., nn.Module], ...] = (vit_small, mixer_small, binary_vit_small)
"""Networks for images whose layers are linear, called as those of `ALL`."""
WITHOUT_NORMS: tuple[Callable[..., nn.Module], ...] = (ab_resnet18, vgg7)
"""Networks whose weights are standardized in place of norms, or scaled by constants; called as those of `ALL`."""

__all__ = [
    "ALL",
    "DDNN",
    "GPT",
    "OF_PATCHES",
    "WITHOUT_NORMS",
    "Aggregation",
    "AveragePooling",
    "Backbone",
    "Concatenation",
    "ExpertConv2d",
    "GPTShape",
    "HasFeatureMaps",
    "LSTMLanguageModel",
    "Level",
    "MaxPooling",
    "RecurrentLanguageModel",
    "ab_resnet18",
    "alexnet",
    "binary_densenet28",
    "binary_densenet37",
    "binary_densenet37_dilated",
    "binary_densenet45",
    "binary_vit_small",
    "bireal_net18",
    "bireal_net34",
    "bnext_large",
    "bnext_middle",
    "bnext_small",
    "bnext_tiny",
    "cell_detector",
    "ddnn",
    "ds_cnn",
    "meliusnet22",
    "meliusnet29",
    "meliusnet42",
    "meliusnet59",
    "meliusnet_a",
    "meliusnet_b",
    "meliusnet_c",
    "mixer_small",
    "mlp",
    "nin",
    "point_net",
    "pokebnn_1x",
    "pokebnn_2x",
    "pokebnn_half",
    "quicknet",
    "quicknet_large",
    "quicknet_small",
    "react_resnet18",
    "reactnet_a",
    "real_to_binary_net",
    "resnet18_cifar",
    "resnet20_cifar",
    "resnet_e18",
    "resnet_e34",
    "series_cnn",
    "text_encoder",
    "vgg7",
    "vgg_small",
    "vit_small",
]
