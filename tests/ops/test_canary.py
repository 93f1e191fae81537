# SPDX-License-Identifier: Apache-2.0
"""Native kernels write all of their output and nothing beside it, whatever its size and alignment."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from _cases import FLOATS, SIZES, Conv, epilogue, values, words
from bittern import _native, ops
from bittern.ops._check import DTYPE_CODES, words_for
from bittern.ops.binary_conv2d.geometry import output_size

ISAS = pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)
SHAPES = pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7), (1, 63), (3, 64), (2, 65), (1, 255), (3, 257)])
FOLDED = pytest.mark.parametrize("folded", [False, True], ids=["acc", "epilogue"])
THREADS = 1
GUARD = 256
"""Bytes on each side, four cache lines."""
FILLS = (0xA5, 0x5A)
ALIGNMENT = 64


class Guarded:
    """A tensor between two strips of known bytes. Every byte of it starts as `fill`, too."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, fill: int, shift: int = 0) -> None:
        """shift: elements by which the tensor misses 64-byte alignment."""
        size = torch.Size(shape).numel() * dtype.itemsize
        self._fill = fill
        self._memory = torch.full((ALIGNMENT + GUARD + shift * dtype.itemsize + size + GUARD,), fill, dtype=torch.uint8)
        start = -self._memory.data_ptr() % ALIGNMENT + GUARD + shift * dtype.itemsize
        self._start, self._end = start, start + size
        self.tensor = self._memory[start : start + size].view(dtype).view(shape)

    def assert_untouched(self) -> None:
        for name, strip in (("before", self._memory[: self._start]), ("after", self._memory[self._end :])):
            assert (strip == self._fill).all(), f"wrote {name} the output"


def check(shape: tuple[int, ...], dtype: torch.dtype, run: Callable[[int, int], None]) -> None:
    """run(fill, address) into guarded, misaligned outputs that start as two different fills; they must end equal."""
    results = []
    for fill in FILLS:
        out = Guarded(shape, dtype, fill, shift=1)
        run(fill, out.tensor.data_ptr())
        out.assert_untouched()
        results.append(out.tensor.clone())
    assert torch.equal(*(r.reshape(-1).view(torch.uint8) for r in results)), "left a part of the output unwritten"


def test_a_guard_notices_one_byte() -> None:
    for position in (-1, 3):
        out = Guarded((3,), torch.uint8, FILLS[0])
        out._memory[out._start + position] = 0
        with pytest.raises(AssertionError, match=r"wrote (before|after) the output"):
            out.assert_untouched()


def test_a_run_that_skips_an_element_is_noticed() -> None:
    with pytest.raises(AssertionError, match="unwritten"):
        check((3,), torch.int32, lambda fill, out: None)


@ISAS
@pytest.mark.parametrize("dtype", DTYPE_CODES, ids=str)
@pytest.mark.parametrize("n", [0, *SIZES])
def test_sign(isa: ops.Isa, dtype: torch.dtype, n: int) -> None:
    x = values(f"canary {n}", (n,), dtype)
    check((n,), dtype, lambda _, out: _native.sign(isa, THREADS, x.data_ptr(), DTYPE_CODES[dtype], n, out))


@ISAS
@pytest.mark.parametrize("n", [0, *SIZES])
def test_estimators(isa: ops.Isa, n: int) -> None:
    x = values(f"canary {n}", (n,), torch.float32)
    mask = ops.clipped_sign.reference(x)[1]
    values_of, mask_of = torch.empty(n), torch.empty(-(-n // 8), dtype=torch.uint8)
    at, code, other, bits = x.data_ptr(), (isa, THREADS), values_of.data_ptr(), mask_of.data_ptr()
    series = (10, 0.1, 1.0, True, 0.5)
    runs: dict[str, Callable[[int, int], None]] = {
        "signs": lambda _, out: _native.clipped_sign(*code, at, n, 1.0, False, out, bits),
        "levels": lambda _, out: _native.clipped_levels(*code, at, n, 3, out, bits),
        "masked": lambda _, out: _native.masked_gradient(*code, at, mask.data_ptr(), n, 1.0, out),
        "approx": lambda _, out: _native.approx_sign_gradient(*code, at, at, n, out),
        "decay": lambda _, out: _native.error_decay_gradient(*code, at, at, n, 1.0, 1.0, out),
        "fourier": lambda _, out: _native.fourier_gradient(*code, at, at, n, *series, out),
        "noisy": lambda _, out: _native.noisy_sign(*code, at, at, n, 0.1, out),
    }
    for run in runs.values():
        check((n,), torch.float32, run)
    check((len(mask),), torch.uint8, lambda _, out: _native.clipped_sign(*code, at, n, 1.0, False, other, out))
    check((len(mask),), torch.uint8, lambda _, out: _native.clipped_levels(*code, at, n, 1, other, out))


@ISAS
@pytest.mark.parametrize("n", [0, *SIZES])
def test_flat_bits(isa: ops.Isa, n: int) -> None:
    x, code, words = ops.sign(torch.randn(n)), (isa, THREADS), -(-n // 64)
    bits = ops.flat_bits(x, -1, isa)
    assert bits is not None
    at = bits.data_ptr()
    check((words,), torch.int64, lambda _, out: _native.flat_bits(*code, x.data_ptr(), n, -1.0, out))
    check((n,), torch.float32, lambda _, out: _native.from_flat_bits(*code, at, n, -1.0, out))
    check((n // 3, 1), torch.int64, lambda _, out: _native.rows_of_bits(*code, at, n // 3, 3, out))


@ISAS
@pytest.mark.parametrize(("rows", "n"), [(0, 5), (1, 1), (3, 63), (2, 1025)])
def test_scaled_gradient(isa: ops.Isa, rows: int, n: int) -> None:
    y, factor = torch.randn(rows, n), torch.randn(n)
    others = torch.empty_like(y), torch.empty(n)
    given = (isa, THREADS, y.data_ptr(), y.data_ptr(), factor.data_ptr(), rows, n)
    check((rows, n), torch.float32, lambda _, out: _native.scaled_gradient(*given, out, others[1].data_ptr()))
    check((n,), torch.float32, lambda _, out: _native.scaled_gradient(*given, others[0].data_ptr(), out))


@ISAS
@pytest.mark.parametrize(("rows", "n"), [(0, 5), (1, 1), (3, 63), (2, 1025)])
def test_scale_whole(isa: ops.Isa, rows: int, n: int) -> None:
    y, factor, others = torch.ones(rows, n), torch.randn(n), (torch.empty(rows, n), torch.empty(n))
    lifted = torch.empty(rows, n, dtype=torch.uint16)
    given = (isa, THREADS, y.data_ptr(), factor.data_ptr(), rows, n)
    check((rows, n), torch.float32, lambda _, out: _native.scale_whole(*given, out, lifted.data_ptr()))
    check((rows, n), torch.int16, lambda _, out: _native.scale_whole(*given, others[0].data_ptr(), out))
    given = (isa, THREADS, y.data_ptr(), lifted.data_ptr(), factor.data_ptr(), rows, n)
    check((n,), torch.float32, lambda _, out: _native.scaled_gradient_of_whole(*given, others[0].data_ptr(), out))
    check((rows, n), torch.float32, lambda _, out: _native.scaled_gradient_of_whole(*given, out, others[1].data_ptr()))


@ISAS
@pytest.mark.parametrize("shape", [(0, 5, 1), (3, 7, 1), (900, 16, 1), (2, 3, 5), (1, 2, 65)])
def test_shifted_sign(isa: ops.Isa, shape: tuple[int, int, int]) -> None:
    x, shift = torch.randn(shape), torch.randn(shape[1])
    others = torch.empty_like(x), torch.empty_like(shift)
    sums = torch.empty(_native.shifted_sign_sums(*shape))
    at = (x.data_ptr(), shift.data_ptr(), *shape)
    check(shape, torch.float32, lambda _, out: _native.shifted_sign(isa, THREADS, *at, out))
    given = (isa, THREADS, x.data_ptr(), *at)
    gradient = _native.shifted_sign_gradient
    check(shape, torch.float32, lambda _, out: gradient(*given, sums.data_ptr(), out, others[1].data_ptr()))
    check((shape[1],), torch.float32, lambda _, out: gradient(*given, sums.data_ptr(), others[0].data_ptr(), out))
    check((len(sums),), torch.float32, lambda _, out: gradient(*given, out, *(t.data_ptr() for t in others)))


@ISAS
@pytest.mark.parametrize(("rows", "columns", "hidden"), [(0, 5, 1), (3, 7, 2), (65, 16, 1), (70, 33, 3)])
def test_adapted_sign(isa: ops.Isa, rows: int, columns: int, hidden: int) -> None:
    x, down, up = torch.randn(rows, columns), torch.randn(hidden, columns), torch.randn(columns, hidden)
    others = torch.empty_like(x), torch.empty_like(down), torch.empty_like(up)
    working = torch.empty(3, hidden, columns)
    given = (isa, THREADS, x.data_ptr(), rows, columns, down.data_ptr(), up.data_ptr(), hidden, 0.1, 0.01)
    check((rows, columns), torch.float32, lambda _, out: _native.adapted_sign(*given, working.data_ptr(), out))
    at = (working[0].data_ptr(), x.data_ptr(), 10, 0.1, 1.0, False, 1, working[1:].data_ptr())
    for place, other in enumerate(others):

        def run(_: int, out: int, place: int = place) -> None:
            to = [t.data_ptr() for t in others]
            to[place] = out
            _native.adapted_sign_gradient(*given, *at, *to)

        check(tuple(other.shape), torch.float32, run)


@ISAS
def test_window_mean(isa: ops.Isa) -> None:
    means = torch.randn(2, 1, 5, 9)
    given = (isa, THREADS, means.data_ptr(), 2, (5, 9), (3, 11), (3, 3), (2, 1), (1, 2), (1, 1))
    check((2, 1, 3, 11), torch.float32, lambda _, out: _native.window_mean(*given, out))


@ISAS
@pytest.mark.parametrize(("samples", "n"), [(0, 5), (1, 2), (3, 63), (2, 64), (3, 4097)])
def test_standard_sign(isa: ops.Isa, samples: int, n: int) -> None:
    x = torch.randn(samples, n)
    values_of, statistics = torch.empty_like(x), ops.standard_sign.reference(x, 1e-5)[1]
    at, code, sizes = x.data_ptr(), (isa, THREADS), (samples, n)
    other, known = torch.empty(samples, 2), statistics.data_ptr()
    check(
        (samples, n),
        torch.float32,
        lambda _, out: _native.standard_sign(*code, at, *sizes, 1e-5, out, other.data_ptr()),
    )
    check(
        (samples, 2),
        torch.float32,
        lambda _, out: _native.standard_sign(*code, at, *sizes, 1e-5, values_of.data_ptr(), out),
    )
    check((samples, n), torch.float32, lambda _, out: _native.standard_sign_gradient(*code, at, at, known, *sizes, out))


@ISAS
@SHAPES
@pytest.mark.parametrize("dtype", DTYPE_CODES, ids=str)
def test_pack_signs(isa: ops.Isa, dtype: torch.dtype, rows: int, columns: int) -> None:
    x = values(f"canary {columns}", (rows, columns), dtype)
    limits = torch.ones(columns, dtype=dtype if dtype in (torch.float64, torch.int32) else torch.float32)
    for threshold in (0, limits.data_ptr()):
        arguments = (isa, THREADS, x.data_ptr(), DTYPE_CODES[dtype], rows, columns, threshold)
        check((rows, words_for(columns)), torch.int64, lambda _, out, a=arguments: _native.pack_signs(*a, out))


@ISAS
@SHAPES
@pytest.mark.parametrize("dtype", DTYPE_CODES, ids=str)
def test_pack_planar(isa: ops.Isa, dtype: torch.dtype, rows: int, columns: int) -> None:
    x = values(f"canary {columns}", (2, columns, rows), dtype)
    arguments = (isa, THREADS, x.data_ptr(), DTYPE_CODES[dtype], 2, rows, columns, 0)
    check((2, rows, words_for(columns)), torch.int64, lambda _, out: _native.pack_planar(*arguments, out))


@ISAS
@SHAPES
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_unpack_signs(isa: ops.Isa, dtype: torch.dtype, rows: int, columns: int) -> None:
    packed = words(f"canary {columns}", rows, bits=columns)
    arguments = (isa, THREADS, packed.data_ptr(), rows, columns, DTYPE_CODES[dtype])
    check((rows, columns), dtype, lambda _, out: _native.unpack_signs(*arguments, out))


def prepared(isa: ops.Isa, w: Tensor, taps: int, channels: int, groups: int) -> dict[int, Tensor]:
    """The prepared weights for each fill: their layout has gaps, which keep the fill and must change no result."""
    shape = (w.shape[0], taps, channels, groups)
    size = _native.prepared_bytes(isa, *shape)
    weights = {}
    for fill in FILLS:
        out = Guarded((size,), torch.uint8, fill)  # aligned, as torch allocates it
        _native.prepare_weights(isa, w.data_ptr(), *shape, out.tensor.data_ptr())
        out.assert_untouched()
        weights[fill] = out.tensor
    return weights


@ISAS
@FOLDED
@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 1, 1), (3, 7, 63), (17, 33, 65), (5, 15, 257), (2, 65, 1000), (33, 9, 4097)]
)
def test_binary_matmul(isa: ops.Isa, folded: bool, m: int, n: int, k: int) -> None:
    a, b = words(f"canary a {k}", m, bits=k), words(f"canary b {k}", n, bits=k)
    rows = epilogue(f"canary {n}", n)
    weights = prepared(isa, b, 1, k, 1)

    def run(fill: int, out: int) -> None:
        address = rows.data_ptr() if folded else 0
        _native.binary_matmul(isa, THREADS, a.data_ptr(), m, k, weights[fill].data_ptr(), n, address, out)

    check((m, n), torch.float32 if folded else torch.int32, run)


CONVS = (
    Conv(1, 1, (1, 1), (1, 1), padding=(0, 0)),
    Conv(65, 7, (5, 3), (3, 2), (2, 1), (2, 1), (1, 2)),
    Conv(66, 9, (7, 6), groups=3),
    Conv(40, 40, (5, 5), groups=40),
    Conv(256, 65, (3, 3), groups=1),
    Conv(127, 33, (1, 9), (1, 5), padding=(0, 4)),
)


@ISAS
@FOLDED
@pytest.mark.parametrize("pad_value", [-1, 0, 1])
@pytest.mark.parametrize("conv", CONVS, ids=str)
def test_binary_conv2d(isa: ops.Isa, folded: bool, pad_value: int, conv: Conv) -> None:
    x, w, channels, stride, padding, dilation, groups, _, _ = conv.make()
    out_channels, kernel_h, kernel_w = w.shape[:3]
    weights = prepared(isa, w, kernel_h * kernel_w, channels, groups)
    rows = epilogue(str(conv), out_channels)
    image = (x.data_ptr(), *x.shape[:3], channels)
    geometry = (kernel_h, kernel_w, *stride, *padding, *dilation, groups, pad_value)

    def run(fill: int, out: int) -> None:
        filters = (weights[fill].data_ptr(), out_channels)
        _native.binary_conv2d(isa, THREADS, *image, *filters, *geometry, rows.data_ptr() if folded else 0, out)

    size = output_size(*x.shape[1:3], kernel_h, kernel_w, stride, padding, dilation)
    check((len(x), *size, out_channels), torch.float32 if folded else torch.int32, run)
