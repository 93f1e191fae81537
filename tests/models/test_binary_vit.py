# SPDX-License-Identifier: Apache-2.0
"""BinaryViT: a block by plain operations, what no shortcut may lose, and a small network packed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.binary import ReActNet
from bittern.binary.attention import ElasticAttention
from bittern.deploy import pack, verify
from bittern.models import binary_vit_small
from bittern.models.binary_vit import BinaryViT, BinaryViTBlock, Halving, Product

SMALL: dict[str, Any] = {
    "widths": (4, 8),
    "depths": (1, 0),
    "heads": (2, 2),
    "reductions": (2, 1),
    "expansions": (2, 2),
}


def prelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.25 * x)


def normed(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()


def test_a_block_by_plain_operations() -> None:
    torch.manual_seed(0)
    block = BinaryViTBlock(4, 2, 4, 2, 3, None, None).eval()
    with torch.no_grad():
        for at, scaled in enumerate(block.means):
            scaled.scale.fill_(0.5 + at)
    x = torch.randn(2, 16, 4)

    def product(layer: Product, x: Tensor, shortcut: Tensor) -> Tensor:
        return prelu(normed(x @ layer.product.weight.T) + shortcut)

    y = normed(x)
    grid = y.view(2, 4, 4, 4)
    pooled = (grid[:, ::2, ::2] + grid[:, 1::2, ::2] + grid[:, ::2, 1::2] + grid[:, 1::2, 1::2]).div(4).reshape(2, 4, 4)
    assert block.reduce is not None
    s = product(block.reduce, pooled, pooled)
    q, k, v = (product(m, t, t) for m, t in ((block.query, y), (block.key, s), (block.value, s)))
    heads = [(q[..., h : h + 2] @ k[..., h : h + 2].mT / 2**0.5).softmax(-1) @ v[..., h : h + 2] for h in (0, 2)]
    up = [t.view(2, 2, 2, 4).repeat_interleave(2, 1).repeat_interleave(2, 2).reshape(2, 16, 4) for t in (k, v)]
    c = prelu(normed(torch.cat(heads, -1)) + q + up[0] + up[1])
    z = x + 0.1 * product(block.project, c, c)
    y = normed(z)
    wide = product(block.up, y, torch.cat([y, y, y], -1))
    expected = z + 0.1 * product(block.down, wide, wide.view(2, 16, 4, 3).mean(3))
    image = y.view(2, 4, 4, 4)
    for at, (rows, columns) in enumerate(((1, 0), (0, 1), (2, 0), (0, 2))):
        padded = F.pad(image, (0, 0, columns, columns, rows, rows))
        windows = [padded[:, i : i + 4, j : j + 4] for i in range(2 * rows + 1) for j in range(2 * columns + 1)]
        expected = expected + (0.5 + at) * (sum(windows) / len(windows)).reshape(2, 16, 4)
    assert torch.allclose(block(x), expected, atol=1e-5)


def test_halving_by_plain_operations() -> None:
    torch.manual_seed(0)
    layer = Halving(3, 6, 4, None)
    x = torch.randn(2, 16, 3)
    grid = normed(x).view(2, 4, 4, 3)
    corners = [(i, j, grid[:, i::2, j::2].reshape(2, 4, 3)) for i in (0, 1) for j in (0, 1)]
    mean = sum(part for _, _, part in corners) / 4
    convolved = sum(part @ layer.product.weight[:, :, i, j].T for i, j, part in corners)
    expected = prelu(normed(convolved) + torch.cat([mean, mean], -1)) + layer.positions
    assert torch.allclose(layer(x), expected, atol=1e-5)


def test_a_small_network_learns_and_packs() -> None:
    torch.manual_seed(0)
    model = BinaryViT(ReActNet, 3, 2, 16, **SMALL, attention=ElasticAttention)
    x = torch.randn(3, 2, 16, 16)
    model(x).square().sum().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []
    assert [tuple(m.shape) for m in model.feature_maps(x)] == [(3, 16, 4), (3, 4, 8)]
    real = BinaryViT(ReActNet, 3, 2, 16, **SMALL)
    assert verify(pack(real.eval(), x), real, x).exact


def test_images_that_do_not_halve_are_refused() -> None:
    with pytest.raises(ValueError, match="binary_vit_small: input_size must be a multiple of 32; got 28; resize"):
        binary_vit_small(input_size=28)
