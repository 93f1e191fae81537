# SPDX-License-Identifier: Apache-2.0
"""`binary_block` on the CPU: prepared blocks, and programs of several steps over planned memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bittern import _native
from bittern.ops._check import WORD_BITS
from bittern.ops._isa import Isa, threads
from bittern.ops.binary_block.arguments import BlockArguments
from bittern.ops.binary_block.images import WORD_BYTES, BitImages
from bittern.ops.binary_block.layout import (
    ROWS,
    STEP,
    TAIL_UNIT,
    Activation,
    StepKind,
    bytes_of,
    extent_of,
    point,
)
from bittern.ops.binary_conv2d.cpu import PreparedConv2d
from bittern.ops.binary_conv2d.geometry import output_size


class ResidualRule(NamedTuple):
    """How a block's output pixel and channel find their residual."""

    pool: int = 1
    """The mean over pool x pool pixels, fewer at an edge."""
    shift: int = 0
    """Output channel c takes residual channel c - shift, and 0 where there is none."""
    repeats: bool = False
    """Channel c takes c modulo the residual's channels."""
    last: bool = False
    """Added behind the activation instead of before it."""


PLANES_DIMS = 5

NO_RULE = ResidualRule()
"""One residual for one output element."""


def tail_rows(
    epilogue: Tensor, parameters: Tensor | None, threshold: Tensor | None, residual_affine: Tensor | None
) -> Tensor:
    """Rows as native code reads them: float32 [10, pitch], with room for a whole unit behind the last channel."""
    out = epilogue.shape[1]
    rows = torch.zeros(len(ROWS), -(-out // TAIL_UNIT) * TAIL_UNIT + TAIL_UNIT, dtype=torch.float32)
    rows[:4, :out] = epilogue
    if parameters is not None:
        rows[4 : 4 + parameters.shape[0], :out] = parameters
    if threshold is not None:
        rows[ROWS.index("threshold"), :out] = threshold
    if residual_affine is not None:
        rows[ROWS.index("residual_alpha") :, :out] = residual_affine
    return rows


class PreparedBlock:
    """`binary_block` with fixed weights, laid out once for this CPU's kernel.

    w: int64 [out, kernel_h, kernel_w, ceil(channels / groups / 64)], or one more dimension in front for weights of
    several bit planes, which add up as sum_i 2^i w_i, like the planes of the input, but for the last of them, whose
    factor is `last_factor` where that is given, also below 0; raised: planes of the input whose padding is +1 instead
    of pad_value, as bits of a number, of images without a border; epilogue: float32 [4, out];
    parameters: those of the activation, float32 [n, out]; threshold: float32 [out]; residual_affine: float32 [2, out];
    factor: float32 [out_h or 1, out_w or 1, out]; a size of 1 stands for all rows or columns.
    `step` describes one call over given memory.
    """

    def __init__(
        self,
        w: Tensor,
        channels: int,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        pad_value: int,
        epilogue: Tensor,
        activation: Activation = Activation.NONE,
        parameters: Tensor | None = None,
        residual: ResidualRule = NO_RULE,
        threshold: Tensor | None = None,
        residual_affine: Tensor | None = None,
        factor: Tensor | None = None,
        isa: Isa | None = None,
        last_factor: int | None = None,
        raised: int = 0,
    ) -> None:
        planes = w if w.ndim == PLANES_DIMS else w.unsqueeze(0)
        convs = [PreparedConv2d(p, channels, stride, padding, dilation, groups, pad_value, None, isa) for p in planes]
        self.conv = convs[0]
        self.planes = len(convs)
        self.last_factor = 1 << (self.planes - 1) if last_factor is None else last_factor
        self.raised = raised
        self.weights = torch.cat([conv.weights for conv in convs]) if self.planes > 1 else self.conv.weights
        self.activation = activation
        self.residual = residual
        self.maps_residual = residual_affine is not None
        missing = -w.shape[-4] % TAIL_UNIT + TAIL_UNIT  # as the rows: a unit may start at half of another
        self.factor = None if factor is None else F.pad(factor, (0, missing)).contiguous()
        self.rows = tail_rows(epilogue, parameters, threshold, residual_affine)

    @property
    def isa(self) -> Isa:
        return self.conv.isa

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        c = self.conv
        return output_size(height, width, c.kernel_h, c.kernel_w, c.stride, c.padding, c.dilation)

    def step(
        self,
        x: BitImages,
        residual: Tensor | None = None,
        real: Tensor | None = None,
        bits: BitImages | None = None,
        input_scale: Tensor | None = None,
    ) -> np.ndarray:
        """The record of one call. residual, real: float32 NHWC, contiguous; `real` may be the residual itself.

        input_scale: float32 [batch, out_h, out_w].
        """
        record = np.zeros(1, STEP)
        record["kind"] = StepKind.CONVOLVE
        self._describe_conv(record["conv"], x)
        planes = record["planes"]
        planes["input"], planes["weight"] = x.planes, self.planes
        planes["input_words"], planes["weight_bytes"] = x.plane_words, self.conv.weights.numel()
        planes["last_factor"], planes["raised"] = self.last_factor, self.raised
        tail = record["tail"]
        tail["activation"], tail["residual_last"] = self.activation, self.residual.last
        tail["rows"], tail["pitch"] = self.rows.data_ptr(), self.rows.shape[1]
        if residual is not None:
            tail["residual"] = residual.data_ptr()
            tail["residual_height"], tail["residual_width"], tail["residual_channels"] = residual.shape[1:]
            tail["residual_pool"], tail["residual_shift"] = self.residual.pool, self.residual.shift
            tail["residual_repeats"], tail["residual_affine"] = self.residual.repeats, self.maps_residual
        tail["input_scale"] = 0 if input_scale is None else input_scale.data_ptr()
        if self.factor is not None:
            tail["factor"] = self.factor.data_ptr()
            rows, columns, pitch = self.factor.shape
            tail["factor_row"] = 0 if rows == 1 else columns * pitch
            tail["factor_pitch"] = 0 if columns == 1 else pitch
        tail["real"] = 0 if real is None else real.data_ptr()
        if bits is not None:
            tail["bits"], tail["bits_row"], tail["bits_image"] = bits.address, bits.row_words, bits.image_words
        sizes = record["sizes"]
        sizes["input_before"], sizes["input"], sizes["weights"] = x.bytes_before, x.bytes_behind, bytes_of(self.weights)
        sizes["rows"], sizes["factor"] = bytes_of(self.rows), bytes_of(self.factor)
        sizes["input_scale"] = bytes_of(input_scale)
        sizes["residual"] = 0 if residual is None else extent_of(residual)
        sizes["real"], sizes["bits"] = bytes_of(real), 0 if bits is None else bits.bytes_behind
        return record

    def _describe_conv(self, conv: np.ndarray, x: BitImages) -> None:
        c = self.conv
        conv["batch"], conv["height"], conv["width"], conv["channels"] = x.batch, x.height, x.width, c.channels
        conv["out_channels"], conv["kernel_h"], conv["kernel_w"] = c.out_channels, c.kernel_h, c.kernel_w
        conv["stride_h"], conv["stride_w"] = c.stride
        conv["pad_h"], conv["pad_w"] = c.padding
        conv["dilation_h"], conv["dilation_w"] = c.dilation
        conv["groups"], conv["pad_value"] = c.groups, c.pad_value
        conv["input"], conv["weights"] = x.address, self.weights.data_ptr()
        conv["input_row"], conv["input_image"], conv["input_border"] = x.row_words, x.image_words, x.border


def encode_step(
    x: Tensor, threshold: Tensor | None, bits: BitImages, affine: Tensor | None = None, *, first: int = 0
) -> np.ndarray:
    """The record of packing images: float32 [batch, height, width, channels], `readable`.

    One plane of bits: of x >= threshold, or of x * affine[0] + affine[1] >= threshold, rounded once, with float32
    [2, channels]. Several: of round(clip(x, 0, 1) * (2^planes - 1)), ties to even.
    first: of the channels of `bits`, the one where those of x begin. What stands in front of it stays; write channels
    from the first to the last, since those behind x in its last word become 0.
    """
    record = np.zeros(1, STEP)
    record["kind"] = StepKind.ENCODE
    e = record["encode"]
    e["batch"], e["height"], e["width"], e["channels"] = x.shape
    e["planes"], e["plane_words"] = bits.planes, bits.plane_words
    e["threshold"] = 0 if threshold is None else threshold.data_ptr()
    e["affine"] = 0 if affine is None else affine.data_ptr()
    before = first // WORD_BITS * WORD_BYTES
    e["pixel_words"], e["first_bit"] = bits.pixel_words, first % WORD_BITS
    e["bits"], e["bits_row"], e["bits_image"] = bits.address + before, bits.row_words, bits.image_words
    record["sizes"]["mask"], record["sizes"]["bits"] = bytes_of(threshold), bits.bytes_behind - before
    record["sizes"]["rows"] = bytes_of(affine)
    point(record, "encode", x)
    return record


class Steps:
    """Records that run one after another, as often as asked for.

    The caller answers for addresses, and for the bytes that they say are there, which are checked at every run.
    """

    def __init__(self, isa: Isa, records: np.ndarray) -> None:
        self._isa = int(isa)
        self._records = records
        self._address = records.ctypes.data
        self._count = len(records)

    def run(self) -> None:
        """Raises: RuntimeError, before anything runs, for a record that would touch more than its bytes."""
        _native.run_block_program(self._isa, threads(), self._address, self._count)


def run_steps(isa: Isa, steps: np.ndarray) -> None:
    """Run records once (`Steps`)."""
    Steps(isa, steps).run()


def binary_block_cpu(isa: Isa, a: BlockArguments) -> tuple[Tensor, Tensor]:
    rule = ResidualRule(a.residual_pool, a.residual_shift, a.residual_repeats, a.residual_last)
    kind = Activation(a.activation)
    block = PreparedBlock(*a[1:9], kind, a.parameters, rule, a.threshold, a.residual_affine, a.factor, isa)
    pixels, out = (a.x.shape[0], *block.output_size(*a.x.shape[1:3])), a.w.shape[0]
    real = torch.empty((*pixels, out), dtype=torch.float32, device="cpu")
    bits = BitImages.empty(*pixels, out)
    images = BitImages.of(a.x, a.channels)
    addend = None if a.residual is None else a.residual.contiguous()
    scale = None if a.input_scale is None else a.input_scale.contiguous()
    run_steps(isa, block.step(images, addend, real, bits, scale))
    return real, bits.view()
