# SPDX-License-Identifier: Apache-2.0
"""A packed model on a GPU: where no real convolution comes before a sign, the same bits as on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bittern import binary
from bittern.deploy import pack, verify
from bittern.nn import BinaryConv2d, BinaryLinear

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("method", binary.COMPARED, ids=lambda m: m.__name__)
def test_packed_on_cuda(method: type) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        BinaryConv2d(3, 70, 3, padding=1, method=method),
        nn.BatchNorm2d(70),
        BinaryConv2d(70, 16, 3, stride=2, padding=1, groups=2, method=method),
        nn.BatchNorm2d(16),
        nn.Flatten(),
        BinaryLinear(16 * 36, 10, method=method),
        nn.BatchNorm1d(10),
    )
    batch = torch.randn(8, 3, 12, 12)
    model(batch)  # gives the batch norms statistics, and XNOR-Net++ its sizes
    packed = pack(model, batch)
    moved = packed.to("cuda")
    report = verify(moved, model, batch)
    assert not report.layers[0].different
    if method is not binary.XNORNet:  # its means may be summed in another order
        assert report.exact
        assert torch.equal(moved(batch.cuda()).cpu(), packed(batch))
    with pytest.raises(ValueError, match="is on cuda"):
        moved(batch)
