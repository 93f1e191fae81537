# SPDX-License-Identifier: Apache-2.0
"""Write small packed files and what they answer, for `test_fixtures`: run once per version of the format.

    python tests/deploy/write_fixtures.py FOLDER [NAME ...]

Numbers are multiples of 1/16, so that sums of real layers are exact in whatever order a CPU adds; only files named
`near_...` hold functions whose last bits depend on the CPU. With names, those files alone are written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.export import Dim

sys.path.insert(0, str(Path(__file__).parents[1]))
import _quantizers
from _bit_networks import Inception, Windows
from _graphs import METHODS, scatter
from bittern import ops
from bittern.binary import BNN, DoReFa, ReActNet, XNORNet, XNORNetPlusPlus
from bittern.deploy import Packed, pack
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear, RPReLU, RSign
from bittern.quantizer import Method

GRID = 16


class Residual(nn.Module):
    """Blocks with shortcuts: plain, pooled and doubled, pooled and padded, through a norm; a stem; a binary head."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.one = nn.Sequential(BinaryConv2d(8, 8, 3, padding=1, method=method), nn.BatchNorm2d(8))
        self.two = nn.Sequential(BinaryConv2d(8, 16, 3, 2, 1, method=method), nn.BatchNorm2d(16))
        self.norm = nn.BatchNorm2d(16)
        self.three = nn.Sequential(BinaryConv2d(16, 24, 3, 2, 1, method=method), nn.BatchNorm2d(24))
        self.curve = RPReLU(24)
        self.head = BinaryLinear(24, 5, method=method)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardtanh(self.stem(x))
        x = F.hardtanh(self.one(x) + x)
        x = self.two(x) + self.norm(torch.cat([F.avg_pool2d(x, 2)] * 2, 1))
        x = self.curve(self.three(x) + F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 4, 4)))
        return self.head(F.max_pool2d(x, 2).flatten(1))


def groups() -> nn.Sequential:
    """Groups that fill bytes, groups that do not, dilation, padding with +1 and -1, one row and one column."""
    return nn.Sequential(
        BinaryConv2d(6, 32, (1, 3), padding=(0, 1), groups=2, pad_value=1, method=BNN),
        nn.BatchNorm2d(32),
        BinaryConv2d(32, 32, 3, padding=2, dilation=2, groups=4, pad_value=-1, method=ReActNet),
        nn.PReLU(32),
        BinaryConv2d(32, 36, (2, 1), groups=4, bias=True, method=BNN),
        nn.PReLU(),
        BinaryConv2d(36, 36, 3, padding=1, groups=36, method=BNN),
    )


def signal() -> nn.Sequential:
    """One dimension of space, then none."""
    return nn.Sequential(
        nn.Conv1d(4, 12, 3, padding=1),
        nn.BatchNorm1d(12),
        BinaryConv1d(12, 65, 5, 2, 2, bias=True, method=XNORNet),
        nn.MaxPool1d(2),
        BinaryConv1d(65, 10, 3, groups=5, method=partial(DoReFa, weight_bits=2, input_bits=2)),
        nn.AvgPool1d(2),
        nn.Flatten(),
        BinaryLinear(10, 70, method=XNORNetPlusPlus),
        nn.BatchNorm1d(70),
        BinaryLinear(70, 3, bias=True, method=BNN),
    )


class Shapes(nn.Module):
    """Every kind that moves numbers about, and every activation that is exact."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.LeakyReLU(0.25))
        self.most = nn.ReLU6()
        self.sign = RSign(8)
        self.rows = BinaryLinear(8, 4, method=BNN)
        self.linear = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = self.sign(x) * 0.5 + self.most(x)
        y = F.max_pool2d(y, 3, 2, 1) - F.avg_pool2d(x, 2, 2) * 0.25
        z = F.adaptive_avg_pool2d(y * y, 1).flatten(1)
        rows = y.flatten(2).permute(0, 2, 1)
        rows = self.rows(rows).mean(1, keepdim=True).reshape(-1, 4)
        x = ops.sign(F.pad(x, (1, 0, 0, 1), value=0.5))[:, 1::2, 1:]
        return torch.cat([self.linear(z), rows, x.flatten(1)], 1)


class Sizes(nn.Module):
    """Height and width of any size: what is cut off, and how large the answer is, are computed of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.Sequential(BinaryConv2d(8, 8, 3, 2, 1, method=BNN), nn.BatchNorm2d(8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(self.stem(x))
        lower = y[:, :, y.shape[2] // 2 :]
        return F.interpolate(lower, size=x.shape[2:]).flatten(2) + x.shape[3]


class Shared(nn.Module):
    """Layers that are called twice, whose tensors the file holds once; a call with an argument that torch fills in."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(BinaryConv2d(8, 8, 3, padding=1, method=BNN), nn.BatchNorm2d(8), nn.PReLU(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        first = self.head(self.block(x).mean((2, 3)))
        turned = (x > 0).transpose(1, 3).contiguous().any(3)  # bool, so it stays an operator of torch
        second = self.head(self.block(x.flip(3) + turned.unsqueeze(1)).mean((2, 3)))
        return first + second


def codes() -> nn.Sequential:
    """Weights that are no odd integers, and sums of terms, behind signs and behind levels."""
    model = nn.Sequential(
        BinaryConv2d(3, 8, 3, padding=1, method=_quantizers.METHODS["ternary-3"]),
        nn.Hardtanh(),
        BinaryConv2d(8, 12, 3, padding=1, groups=2, bias=True, method=_quantizers.METHODS["ternary"]),
        BinaryConv2d(12, 9, 3, 2, 1, method=_quantizers.METHODS["five"]),
        nn.Flatten(),
        BinaryLinear(9 * 9, 5, bias=True, method=_quantizers.METHODS["terms-2"]),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(32)  # so that no scale is rounded to 0
    return model


def near() -> nn.Sequential:
    """Functions whose last bits depend on the CPU."""
    layers = nn.GELU(), nn.SiLU(), nn.Sigmoid(), nn.Tanh(), nn.LayerNorm(6), nn.Softmax(1), nn.LogSoftmax(1)
    return nn.Sequential(nn.Linear(6, 6), *layers)


def method_name(method: Method) -> str:
    name = getattr(method, "func", method).__name__
    values = getattr(method, "keywords", {}).values()
    return "_".join([name, *(str(getattr(value, "value", value)) for value in values)])


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{f"residual_{method_name(m)}": (partial(Residual, m), (3, 8, 8)) for m in METHODS},
    "inception": (partial(Inception, BNN), (3, 9, 10)),
    "inception_ReActNet": (partial(Inception, ReActNet), (3, 7, 7)),
    "windows": (Windows, (5, 11, 9)),
    "groups": (groups, (6, 5, 8)),
    "signal": (signal, (4, 20)),
    "shapes": (Shapes, (3, 8, 8)),
    "near_functions": (near, (6,)),
    "codes": (codes, (3, 6, 5)),
    "sizes": (Sizes, (3, 8, 6)),
    "shared": (Shared, (8, 4, 4)),
}

OPEN = {"sizes": ({2: "height", 3: Dim("width", max=99)}, (3, 11, 13))}
"""Of networks whose sizes a call chooses: which, and the sample with which they are called."""


def on_grid(x: Tensor) -> Tensor:
    return torch.round(x * GRID) / GRID


def packed(build: Callable[[], nn.Module], shape: tuple[int, ...], dynamic: Any) -> Packed:
    model, example = build().eval(), on_grid(torch.randn(2, *shape))
    model(example)
    scatter(model)
    result = pack(model, example, dynamic=dynamic)
    tensors = {name: on_grid(t) if t.is_floating_point() else t for name, t in result.tensors.items()}
    return Packed(result.program, tensors, result.info, torch.device("cpu"))


def main(folder: Path, names: Collection[str]) -> None:
    answers: dict[str, Tensor] = load_file(folder / "answers.safetensors") if names else {}
    for seed, (name, (build, shape)) in enumerate(NETWORKS.items()):
        if names and name not in names:
            continue
        torch.manual_seed(seed)
        dynamic, called = OPEN.get(name, (None, shape))
        model = packed(build, shape, dynamic)
        model.save(folder / f"{name}.safetensors")
        x = on_grid(torch.randn(3, *called))
        answers |= {f"{name}.input": x, f"{name}.output": model(x).contiguous()}
    save_file(answers, folder / "answers.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
