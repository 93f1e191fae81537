# SPDX-License-Identifier: Apache-2.0
"""Convolutions of every geometry, drawn by hypothesis: every implementation equals the reference."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from _cases import Conv
from _tolerance import assert_exact
from bittern import ops

small = st.integers(1, 3)


@st.composite
def convs(draw: st.DrawFn) -> Conv:
    """Any stride, padding, dilation, groups and pad value; kernels larger than the image; height 1."""
    groups = draw(st.sampled_from([1, 1, 2, 3, 5]))
    channels = groups * draw(st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 65, 128, 130])))
    flat = draw(st.booleans())
    kernel = (1 if flat else draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    dilation = (draw(small), draw(small))
    size = (1 if flat else draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    # at least the padding that lets the dilated kernel fit
    least = [max(0, -(-(r - n) // 2)) for r, n in zip(reach, size, strict=True)]
    return Conv(
        channels,
        groups * draw(st.integers(1, 12)),
        size,
        kernel,
        (draw(small), draw(small)),
        (least[0] + draw(st.integers(0, 2)), least[1] + draw(st.integers(0, 2))),
        dilation,
        groups,
        draw(st.sampled_from([-1, 0, 1])),
        draw(st.integers(1, 3)),
        draw(st.booleans()),
    )


@given(conv=convs())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_conv_of_any_geometry(conv: Conv) -> None:
    arguments = conv.make()
    expected = ops.binary_conv2d.reference(*arguments)
    for implementation in ops.binary_conv2d.implementations():
        if implementation.device == "cpu":
            assert_exact(implementation.call(*arguments), expected)


@given(m=st.integers(1, 40), n=st.integers(1, 70), k=st.integers(1, 300), folded=st.booleans())
@settings(max_examples=80, deadline=None, derandomize=True)
def test_matmul_of_any_size(m: int, n: int, k: int, folded: bool) -> None:
    conv = Conv(k, n, (1, m), (1, 1), padding=(0, 0), folded=folded, batch=1)
    x, w, *_, rows = conv.make()
    arguments = (x.view(m, -1), w.view(n, -1), k, rows)
    expected = ops.binary_matmul.reference(*arguments)
    for implementation in ops.binary_matmul.implementations():
        if implementation.device == "cpu":
            assert_exact(implementation.call(*arguments), expected)
