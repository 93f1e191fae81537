# SPDX-License-Identifier: Apache-2.0
"""`bittern bench few-bits`: every row is there, and its numbers are those of the networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bittern.bench.core.store import from_json
from bittern.bench.integers import networks
from bittern.bench.integers.few_bits import FewBitsReport, Setting, measured
from bittern.ptq import Bits


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.linear = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.relu(self.conv2(torch.relu(self.conv1(x)))).mean((2, 3)))


@pytest.fixture(scope="module")
def report() -> FewBitsReport:
    torch.manual_seed(0)
    model = Small().eval()
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)
    inputs = networks.normalized(images)
    with torch.no_grad():
        labels = model(inputs).argmax(1)
    setting = Setting(widths=(Bits(8, 8), Bits(2, 4)), seeds=(0, 3), calibration=64, iterations=2)
    return measured("Small", model, images, networks.Test(inputs, labels), "bittern bench few-bits", setting)


def test_every_row_is_there(report: FewBitsReport) -> None:
    roundings = ("nearest", "AdaRound", "BRECQ", "QDrop")
    wanted = [(w, x, name, seed) for w, x in ((8, 8), (2, 4)) for name in roundings for seed in (0, 3)]
    assert [(row.weights, row.inputs, row.rounding, row.seed) for row in report.rows] == wanted
    assert (report.float_accuracy, report.test_images, report.calibration_images) == (1.0, 40, 40)
    assert all(row.accuracy > 0.9 for row in report.rows if row.weights == 8)
    eight, two = (next(row.file_bytes for row in report.rows if row.weights == bits) for bits in (8, 2))
    assert two < eight


def test_the_table_and_the_file(report: FewBitsReport) -> None:
    assert from_json(FewBitsReport, report.to_json()) == report
    text = str(report)
    assert "Small: 100.00 % of 40 test images in float" in text
    assert text.count("W2A4") == 4
    assert "0, 3" in text
