# SPDX-License-Identifier: Apache-2.0
"""The forward pass that every low-bit layer shares, from quantized operands to the real output.

One copy serves 1-d, 2-d convolution and linear layers (a linear layer is a convolution over no space), so they
cannot drift apart. The order of operations is the contract that packed inference repeats bit for bit; it is
written down in `bittern.quantizer` and docs/numerics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from bittern import ops
from bittern._autocast import in_own_precision
from bittern.codes import Code, Ones, Reals, Signs
from bittern.nn._layer_checks import build_method, check_codes, check_padding, check_rows, check_shape
from bittern.nn.cost import Cost, CostedLayer
from bittern.nn.geometry import Geometry, accumulate
from bittern.nn.scaled_product import scaled_product
from bittern.nn.sign_product import is_plain, may_take, sign_product
from bittern.quantizer import (
    InputCode,
    InputScale,
    LayerShape,
    Method,
    OnesCode,
    Quantized,
    Quantizer,
    SignCode,
    has_gate,
    input_codes,
    input_terms,
    reads_reals,
    weight_codes,
)
from bittern.start import TorchUniform


def spread(scale: Tensor, shape: LayerShape, geometry: Geometry) -> Tensor:
    """Carry a scale per pixel [batch, 1, *space] to the output: the mean over each receptive field, zeros outside.

    This is XNOR-Net's K = A * box. Each sum runs over its window row by row, whatever computes it. A linear layer has
    no space, so there the scale stays as it is.
    """
    if not geometry.stride:
        return scale
    window = (shape.weight[2:], *geometry[:3])
    if scale.requires_grad and torch.is_grad_enabled():  # of a method that differentiates its scale
        return ops.window_mean.reference(scale, *window)
    return ops.window_mean.direct(scale, *window)


Accumulate = Callable[[Tensor, Tensor], Tensor]
"""`accumulate` with the geometry of a layer."""


def low_bit_forward(
    x: Tensor,
    terms: tuple[Quantized, ...],
    bias: Tensor | None,
    method: Quantizer,
    geometry: Geometry,
    product: Accumulate,
) -> Tensor:
    """Run one low-bit layer on x [batch, channels, *space] -> [batch, out_channels, *space].

    terms: of the weight, as `weight_terms` gives them.
    product: called with the values of each term of the input and those of each term of the weight, in their order; of
    ones, which are the same in every sample and every filter, with those of one sample, and one filter of each group.
    """
    ones = method.terms_of_ones or (False,) * len(terms)
    total: Tensor | None = None
    for x_code, x_q in zip(input_codes(method), input_terms(method, x), strict=True):
        is_constant = x_q.scale is None or x_q.scale.ndim == 0
        constant = x_q.scale if is_constant else None
        dynamic = None if is_constant else _over_outputs(x_q.scale, x_code, method, geometry)
        values = x_q.values[:1] if isinstance(x_code, OnesCode) else x_q.values
        for index, term in enumerate(terms):
            static = _static(term.scale, constant)
            repeated = ones[index] and is_constant
            y = None if repeated else _with_gradients(values, term, static, x_code, method, index, geometry, product)
            if y is None:
                y = _multiplied(values, term, static, method.shape, product, repeated)
            y = y if dynamic is None else y * dynamic
            total = y if total is None else total + y
    assert total is not None
    y = method.output(total)
    return y if bias is None else y + method.shape.output_view(bias)


def is_repeated(code: Code | Reals, constant: bool) -> bool:
    """Whether all filters of a group have one and the same product: those of ones, where the input's scale is constant.

    Behind a scale that depends on the input, ones are multiplied like other weights.
    """
    return isinstance(code, Ones) and constant


def _multiplied(
    x: Tensor, term: Quantized, static: Tensor | None, shape: LayerShape, product: Accumulate, repeated: bool
) -> Tensor:
    """The product of two terms, times the constant scale, by torch."""
    y = product(x, term.values[: shape.groups] if repeated else term.values)
    if repeated:
        y = y.repeat_interleave(shape.out_channels // shape.groups, 1)
    return y if static is None else y * shape.output_view(static)


def _with_gradients(
    x: Tensor,
    term: Quantized,
    static: Tensor | None,
    x_code: InputCode,
    method: Quantizer,
    index: int,
    geometry: Geometry,
    product: Accumulate,
) -> Tensor | None:
    """The same where a gradient is asked for: from bits, or real numbers times a scale; else None.

    index: of the term of the weight.
    """
    if not may_take(x, term.values, geometry) or getattr(product, "__func__", None) is not LowBitLayer.accumulate:
        return None
    low = _low_of_bits(x_code, weight_codes(method)[index])
    y = None if low is None else sign_product(x, term.values, static, geometry, low)
    if y is None and static is not None and is_plain(static):
        y = scaled_product(x, term.values, static, geometry)
    return y


def _low_of_bits(x_code: InputCode, code: Code | Reals) -> int | None:
    """The lower of the two numbers of an input, where the weight's are signs; None: one of them is no bits."""
    grid = x_code.grid
    if isinstance(grid, Reals):
        return None
    two = grid.levels == 2 and grid.high == 1 and grid.low in (-1, 0)
    return grid.low if two and isinstance(code, Signs) else None


def _over_outputs(scale: Tensor | None, code: InputCode, method: Quantizer, geometry: Geometry) -> Tensor:
    """A scale that depends on the input, [batch, 1, ...], as one of the outputs."""
    assert scale is not None
    spatial = isinstance(code, SignCode) and code.scale is InputScale.SPATIAL
    return spread(scale, method.shape, geometry) if spatial else scale


def _static(scale: Tensor | None, constant: Tensor | None) -> Tensor | None:
    """What the product of a term is multiplied by, whatever the input: [out], [1] or nothing."""
    static = None if scale is None else scale.reshape(-1)
    if constant is None:
        return static
    return constant.reshape(1) if static is None else static * constant


class LowBitLayer(CostedLayer):
    """What every low-bit layer holds: a latent weight, its method, and where its outputs look.

    Subclasses add only the signature of the torch layer that they stand for, and `product`.
    """

    def __init__(self, shape: LayerShape, geometry: Geometry, *, bias: bool, method: Method) -> None:
        super().__init__()
        owner = type(self).__name__
        check_shape(owner, shape)
        self.geometry = geometry
        self.method = build_method(owner, method, shape)
        check_codes(owner, self.method)
        check_padding(owner, geometry, self.method)
        check_rows(owner, shape, self.method)
        self.weight = nn.Parameter(torch.empty(shape.weight))
        """Latent weight [out_channels, in_channels / groups, *kernel]."""
        self.bias = nn.Parameter(torch.empty(shape.out_channels)) if bias else None
        """[out_channels] or None."""
        self.reset_parameters()

    def product(self, x: Tensor) -> Tensor:
        """The low-bit part of `forward`: what a packed program computes as one layer."""
        raise NotImplementedError

    def accumulate(self, x: Tensor, w: Tensor) -> Tensor:
        """The integers of one term: values x of the input, as `product` takes it, times values w of the weight."""
        return accumulate(x, w, self.geometry)

    def operand(self, x: Tensor) -> Tensor:
        """What `product` is called with for an input x of the layer: padded, where padding copies real values."""
        return x

    @property
    def product_bias(self) -> nn.Parameter | None:
        """The bias that `product` adds: none where the method has a gate, behind which it comes."""
        return None if has_gate(self.method) else self.bias

    def gated(self, y: Tensor, x: Tensor) -> Tensor:
        """y = product(operand(x)) times the method's gate, and the bias behind that; y itself without a gate."""
        if not has_gate(self.method):
            return y
        gate, shape = self.method.gate(x), self.method.shape
        y = y if gate is None else y * gate  # None: of a method that decides by its options
        if self.bias is None:
            return y
        return y + (shape.output_view(self.bias) if shape.space_dims else self.bias)

    @in_own_precision
    def forward(self, x: Tensor) -> Tensor:
        return self.gated(self.product(self.operand(x)), x)

    def cost(self, output: int) -> Cost:
        """1-bit products of all planes; the scales of a method that are derived from the weight are not stored.

        Ones of the input take none, their product is a constant; ones of the weight those of one filter a group. Where
        the input stays real a product is a multiply-accumulate of numbers, one for each term of the weight. So are
        those of a gate.
        """
        method, codes = self.method, weight_codes(self.method)
        bits, shape = self.weight.numel() * sum(code.bits for code in codes), method.shape
        macs = products = 0
        if reads_reals(method):
            macs = output * shape.fan_in * len(codes)
        else:
            planes = sum(code.grid.bits for code in input_codes(method))
            for code in codes:
                outputs = output * shape.groups // shape.out_channels if isinstance(code, Ones) else output * code.bits
                products += outputs * shape.fan_in * planes
        # of a convolution one gate serves a whole sample
        macs += method.gate_macs * (1 if shape.space_dims else output // shape.out_channels)
        real = [p for p in self.parameters(recurse=False) if p is not self.weight]
        real += method.parameters(recurse=False)
        return Cost(macs, products, math.ceil(bits / 8), bits, 0, self.weight, tuple(real), type(method).__name__)

    def taking_over(self, old: nn.Module) -> Self:
        """Share the weight and the bias of the layer of torch whose place this one takes, its device and type."""
        weight, bias = old.weight, old.bias
        assert isinstance(weight, nn.Parameter)
        self.to(device=weight.device, dtype=weight.dtype)
        # the parameter itself, not a copy of its values: layers that share it go on sharing it
        self.weight, self.bias = weight, bias  # type: ignore[assignment]
        return self.train(old.training)

    def reset_parameters(self) -> None:
        """Draw the weight as its method starts, else as torch's layers do, and the bias as torch's layers do.

        The parameters of the method itself stay as they are.
        """
        start_weight(self)
        if self.bias is not None:
            bound = self.method.shape.fan_in**-0.5
            nn.init.uniform_(self.bias, -bound, bound)


def start_weight(layer: LowBitLayer) -> None:
    """Draw the latent weight of `layer` anew, in place, as its method starts."""
    (layer.method.start or TorchUniform())(layer.weight)
