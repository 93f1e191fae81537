# SPDX-License-Identifier: Apache-2.0
"""The mean |x| over channels: its order by plain loops, its bits in every layout, batch and number of threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from _tolerance import assert_exact, assert_reduction
from bittern import ops


def by_loops(x: Tensor) -> np.float32:
    """The order of additions, written out for one pixel."""
    sums = [np.float32(0)] * 16
    for channel, number in enumerate(x.numpy()):
        sums[channel % 16] += abs(number)
    for half in (8, 4, 2, 1):
        sums = [sums[k] + sums[k + half] for k in range(half)]
    return sums[0] / np.float32(len(x))


@pytest.mark.parametrize("channels", [1, 2, 15, 16, 17, 40, 300])
def test_order(channels: int) -> None:
    torch.manual_seed(channels)
    x = torch.randn(2, channels, 3) * 10 ** torch.randn(2, channels, 3)
    found = ops.mean_magnitude(x)
    expected = [[by_loops(sample[:, pixel]) for pixel in range(3)] for sample in x]
    assert found.flatten().tolist() == np.array(expected).flatten().tolist()
    exact = x.double().abs().mean(1, keepdim=True)
    assert_reduction(found, exact, channels, float(x.abs().max()))


def test_by_hand() -> None:
    x = torch.zeros(1, 20)
    x[0, 0], x[0, 8], x[0, 16], x[0, 19] = 2.0**24, 1.0, -1.0, 0.0
    # s_0 = 2^24 + 1 is rounded to 2^24, and so is what s_8 = 1 would add to it
    assert ops.mean_magnitude(x).item() == float(torch.tensor(2.0**24) / 20)
    x[0, 16], x[0, 4] = 0.0, 1.0
    assert ops.mean_magnitude(x).item() == float(torch.tensor(2.0**24) / 20)  # 2^24 + 1, then + 1: each lost
    x[0, 12] = -1.0
    assert ops.mean_magnitude(x).item() == float(torch.tensor(2.0**24 + 2) / 20)  # s_4 + s_12 = 2 first


def test_the_bits_know_neither_batch_nor_layout_nor_threads() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 70, 40, 31)
    whole = ops.mean_magnitude(x)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert_exact(ops.mean_magnitude(x), whole)
        assert_exact(ops.mean_magnitude(x.contiguous(memory_format=torch.channels_last)), whole)
    finally:
        torch.set_num_threads(before)
    assert_exact(ops.mean_magnitude(x[3:4, :, 7:9, 4:5]), whole[3:4, :, 7:9, 4:5].contiguous())


def test_special_numbers() -> None:
    x = torch.zeros(4, 18)
    x[0, 17], x[1, 3], x[2] = torch.nan, -torch.inf, -0.0
    found = ops.mean_magnitude(x).flatten()
    assert found.isnan().tolist() == [True, False, False, False]
    assert found[1:].tolist() == [torch.inf, 0.0, 0.0]
    assert not bool(found[2:].signbit().any())


def test_of_a_sample() -> None:
    x = torch.arange(12.0).view(1, 2, 3, 2) - 6.0
    means = ops.mean_magnitude(x)
    assert ops.mean_of_sample(means).flatten().tolist() == [3.0]
    assert ops.mean_of_sample(means).shape == (1, 1, 1, 1)
    rows = ops.mean_magnitude(x.view(2, 6))
    assert ops.mean_of_sample(rows) is rows


def test_bad_inputs() -> None:
    with pytest.raises(TypeError, match="mean_magnitude"):
        ops.mean_magnitude(torch.zeros(2, 3, dtype=torch.int32))
    for shape in ((3,), (2, 0, 4)):
        with pytest.raises(ValueError, match=r"must be \[samples, channels, \*space\] with at least one channel"):
            ops.mean_magnitude(torch.zeros(shape))
