# SPDX-License-Identifier: Apache-2.0
"""Published networks to try: family, name, how to build one with weights at random, and the size of its input."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Network(NamedTuple):
    """One published architecture."""

    family: str
    name: str
    build: Callable[[], nn.Module]
    size: tuple[int, ...]
    """Of one sample."""
    tokens: int = 0
    """Above 0: the input is of int64 below this."""

    def example(self, samples: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if self.tokens:
            return torch.randint(0, self.tokens, (samples, *self.size), generator=generator)
        return torch.randn(samples, *self.size, generator=generator)


TORCHVISION = {
    "alexnet": 64,
    "vgg11_bn": 32,
    "resnet18": 64,
    "resnet50": 64,
    "resnext50_32x4d": 64,
    "wide_resnet50_2": 64,
    "densenet121": 64,
    "squeezenet1_0": 64,
    "squeezenet1_1": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "mobilenet_v3_large": 64,
    "mnasnet1_0": 64,
    "shufflenet_v2_x1_0": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "regnet_y_400mf": 64,
    "regnet_x_400mf": 64,
    "convnext_tiny": 64,
    "vit_b_32": 224,
    "swin_t": 64,
    "swin_v2_t": 64,
    "maxvit_t": 224,
}
SEGMENTATION = ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
TIMM = {
    "resnet10t": 64,
    "resnetv2_50": 64,
    "res2net50_26w_4s": 64,
    "ecaresnet26t": 64,
    "legacy_seresnet18": 64,
    "skresnet18": 64,
    "resnest14d": 64,
    "cspresnet50": 64,
    "dla34": 64,
    "dpn48b": 64,
    "hrnet_w18_small": 64,
    "vovnet39a": 64,
    "ghostnet_100": 64,
    "tinynet_e": 64,
    "lcnet_050": 64,
    "fbnetc_100": 64,
    "mixnet_s": 64,
    "rexnet_100": 64,
    "repvgg_a0": 64,
    "selecsls42": 64,
    "convmixer_768_32": 64,
    "edgenext_xx_small": 64,
    "mobilevit_xxs": 64,
    "mobileone_s0": 64,
    "efficientformer_l1": 224,
    "poolformer_s12": 64,
    "mixer_s32_224": 224,
    "resmlp_12_224": 224,
    "gmlp_ti16_224": 224,
    "deit_tiny_patch16_224": 224,
    "cait_xxs24_224": 224,
    "pit_ti_224": 224,
    "levit_128s": 224,
    "xcit_nano_12_p16_224": 224,
    "coat_lite_tiny": 224,
    "convit_tiny": 224,
    "crossvit_tiny_240": 240,
    "twins_svt_small": 224,
    "visformer_tiny": 224,
    "nest_tiny": 224,
    "botnet26t_256": 256,
    "halonet26t": 256,
    "lambda_resnet26t": 256,
    "fastvit_t8": 256,
    "repvit_m0_9": 64,
    "starnet_s1": 64,
    "focalnet_tiny_srf": 64,
    "volo_d1_224": 224,
    "hardcorenas_a": 64,
    "nf_resnet26": 64,
}


def torchvision() -> Any:
    """The package; where its compiled operators do not fit this torch, it only needs to know that they exist."""
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEPT.append(library)
    return importlib.import_module("torchvision")


KEPT: list[Any] = []


def _torchvision(name: str, size: int) -> Network:
    def build() -> nn.Module:
        options: dict[str, Any] = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
        if options:
            options["init_weights"] = False
        return torchvision().models.get_model(name, weights=None, num_classes=10, **options)

    return Network("torchvision", name, build, (3, size, size))


def _segmentation(name: str) -> Network:
    def build() -> nn.Module:
        return torchvision().models.get_model(name, weights=None, weights_backbone=None, num_classes=5)

    return Network("segmentation", name, build, (3, 64, 64))


def _timm(name: str, size: int) -> Network:
    def build() -> nn.Module:
        torchvision()
        import timm

        return timm.create_model(name, pretrained=False, num_classes=10)

    return Network("timm", name, build, (3, size, size))


def _bert(kind: str) -> Network:
    def build() -> nn.Module:
        torchvision()  # transformers imports it
        import transformers

        sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
        config = getattr(transformers, f"{kind}Config")(vocab_size=100, num_labels=3, **sizes)
        return getattr(transformers, f"{kind}ForSequenceClassification")(config)

    return Network("transformers", kind, build, (12,), tokens=100)


def _gpt2() -> nn.Module:
    torchvision()
    import transformers

    config = transformers.GPT2Config(vocab_size=100, n_embd=64, n_layer=2, n_head=4, use_cache=False)
    return transformers.GPT2LMHeadModel(config)


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return nn.Sequential(nn.Linear(16, 32), nn.TransformerEncoder(layer, 2), nn.Linear(32, 5))


class Recurrent(nn.Module):
    """A speech model: convolutions over time, a recurrent layer, one answer."""

    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.convs = nn.Sequential(nn.Conv1d(16, 32, 3, padding=1), nn.BatchNorm1d(32), nn.Hardtanh())
        self.more = nn.Sequential(nn.Conv1d(32, 32, 3, padding=1), nn.BatchNorm1d(32), nn.Hardtanh())
        self.cell = cell(32, 32, batch_first=True, bidirectional=True)  # type: ignore[call-arg]
        self.hidden = nn.Linear(64, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.cell(self.more(self.convs(x)).transpose(1, 2))
        return self.head(torch.tanh(self.hidden(steps[:, -1])))


class UNet(nn.Module):
    """A U-Net with transposed convolutions (Ronneberger et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = self._block(3, 16), self._block(16, 32)
        self.up, self.last = nn.ConvTranspose2d(32, 16, 2, 2), self._block(32, 16)
        self.head = nn.Conv2d(16, 2, 1)

    def _block(self, inputs: int, outputs: int) -> nn.Module:
        layers = (nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.Hardtanh())
        return nn.Sequential(*layers, nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.Hardtanh())

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.up(self.down(nn.functional.max_pool2d(x, 2)))
        return self.head(self.last(torch.cat([x, y], 1)))


NETWORKS = (
    *(_torchvision(*entry) for entry in TORCHVISION.items()),
    *(_segmentation(name) for name in SEGMENTATION),
    *(_timm(*entry) for entry in TIMM.items()),
    *(_bert(kind) for kind in ("Bert", "DistilBert", "Albert", "Electra")),
    Network("transformers", "GPT2", _gpt2, (12,), tokens=100),
    Network("torch.nn", "TransformerEncoder", _encoder, (7, 16)),
    Network("torch.nn", "conv + LSTM", lambda: Recurrent(nn.LSTM), (16, 20)),
    Network("torch.nn", "conv + GRU", lambda: Recurrent(nn.GRU), (16, 20)),
    Network("torch.nn", "U-Net", UNet, (3, 32, 32)),
)
"""All that is tried."""
