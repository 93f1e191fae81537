# SPDX-License-Identifier: Apache-2.0
"""Networks of the binary literature; each takes its method as an object: `resnet20_cifar(method=ReCU)`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from bittern.models.bireal_net import bireal_net18, bireal_net34
from bittern.models.cell_detector import cell_detector
from bittern.models.ds_cnn import ds_cnn
from bittern.models.language import GPT, GPTShape, LSTMLanguageModel
from bittern.models.mixer import mixer_small
from bittern.models.mlp import mlp
from bittern.models.point_net import point_net
from bittern.models.reactnet_a import react_resnet18, reactnet_a
from bittern.models.resnet_cifar import resnet18_cifar, resnet20_cifar
from bittern.models.series_cnn import series_cnn
from bittern.models.text_encoder import text_encoder
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
)
"""Networks for images, of convolutions, and the MLP: each a function (method=None, num_classes, in_channels, *,
input_size) -> nn.Module. `vit_small` and `mixer_small` are called alike."""

__all__ = [
    "ALL",
    "GPT",
    "GPTShape",
    "LSTMLanguageModel",
    "bireal_net18",
    "bireal_net34",
    "cell_detector",
    "ds_cnn",
    "mixer_small",
    "mlp",
    "point_net",
    "react_resnet18",
    "reactnet_a",
    "resnet18_cifar",
    "resnet20_cifar",
    "series_cnn",
    "text_encoder",
    "vgg_small",
    "vit_small",
]
