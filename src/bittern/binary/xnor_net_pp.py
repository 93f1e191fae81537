# SPDX-License-Identifier: Apache-2.0
"""XNOR-Net++: one learned, factorized scale on the output (1909.13863)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from bittern import ops
from bittern.binary._common import check_choice
from bittern.estimators import Clip, binarize, in_order, is_transformed, lies_channels_last, linked, links, out_of_order
from bittern.ops._transforms import passes_unseen
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode

CASES = (1, 2, 3, 4)


class XNORNetPlusPlus(Quantizer):
    """Signs of weights and inputs, and a learned scale Gamma on the output in place of XNOR-Net's alpha and K.

    Forward: y = conv(sign(x), sign(W)) * Gamma. With o output channels and an output of h x w pixels, `case` gives
        1   alpha [o]
        2   gamma [o, h, w]
        3   alpha [o] x beta [h, w]
        4   alpha [o] x beta [h] x gamma [w], the paper's choice
    all starting at 1. A 1-d convolution of output length l has gamma [o, l] (case 2) or alpha [o] x beta [l] (3, 4);
    a linear layer has no space: every case is one scale per output, alpha [o]. The factors are multiplied with each
    other from left to right, then with y.
    Start: as the network's real weights.
    Backward: d sign(v)/dv := 1{|v| <= 1} (mask="paper") or 1{|v| < 1} ("released") for weights and inputs; Gamma by
    autograd.

    beta and gamma take their size from the first forward pass, or from the state dict that is loaded before it: until
    then they are `torch.nn.parameter.UninitializedParameter`s, which an optimizer accepts. A layer thus serves one
    output size; run its first forward pass before compiling it.
    Differences: BiBench keeps 2000 entries per dimension whatever the output size. The authors' library implements
    case 1 only, on weights that carry XNOR-Net's alpha as well. sign(0) = +1 here, 0 there.
    Errors: ValueError for an unknown option, and for an output of another size than the first; RuntimeError for
    `output_factors` or `state_dict` before the first forward pass.
    Source: arXiv 1909.13863.
    """

    def __init__(self, shape: LayerShape, *, case: int = 4, mask: Literal["paper", "released"] = "paper") -> None:
        super().__init__(shape)
        check_choice("XNORNetPlusPlus", "case", case, CASES)
        check_choice("XNORNetPlusPlus", "mask", mask, ("paper", "released"))
        self.case = case
        self.mask = mask
        self._spans = _spans(case, shape.space_dims)
        for name, dims in self._spans.items():
            factor: nn.Parameter = UninitializedParameter()  # type: ignore[assignment]  # torch's stub lacks its base
            if dims == (1,):
                factor = nn.Parameter(torch.ones(shape.out_channels))
            self.register_parameter(name, factor)
        self.register_load_state_dict_pre_hook(_take_sizes)  # type: ignore[no-untyped-call]
        self.register_state_dict_pre_hook(_refuse_unsized)  # type: ignore[no-untyped-call]

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(binarize(w, Clip(strict=self.mask == "released")))

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, Clip(strict=self.mask == "released")))

    def input_code(self) -> InputCode:
        return SignCode()

    def output(self, y: Tensor) -> Tensor:
        self._fit(y)
        first, *others = self.output_factors()
        product = first
        for factor in others:
            product = product * factor
        return y * product if product.shape[2:].numel() == 1 or is_transformed() else _scaled(y, product)

    def output_factors(self) -> tuple[Tensor, ...]:
        self._require_sizes("output_factors")
        ndim = 2 + self.shape.space_dims
        return tuple(_spread_over(self.get_parameter(name), dims, ndim) for name, dims in self._spans.items())

    def _fit(self, y: Tensor) -> None:
        """Size what has no size yet; refuse an output that the sizes do not fit."""
        for name, dims in self._spans.items():
            factor = self.get_parameter(name)
            size = tuple(y.shape[d] for d in dims)
            if isinstance(factor, UninitializedParameter):
                _materialize(factor, size)
            elif tuple(factor.shape) != size:
                raise ValueError(
                    f"XNORNetPlusPlus: {name} scales an output of size {list(factor.shape)} (dimensions {list(dims)}); "
                    f"got an output {list(y.shape)}; the first forward pass fixes the size: "
                    "keep the input size, or use case=1"
                )

    def _require_sizes(self, what: str) -> None:
        unsized = [name for name in self._spans if isinstance(self.get_parameter(name), UninitializedParameter)]
        if unsized:
            raise RuntimeError(
                f"XNORNetPlusPlus: {what} needs the size of {' and '.join(unsized)}, which comes from the layer's "
                "output; run one forward pass first"
            )


def _spans(case: int, space_dims: int) -> dict[str, tuple[int, ...]]:
    """Name of each factor of Gamma -> the dimensions of the output that it varies over, in the order of the product."""
    space = tuple(range(2, 2 + space_dims))
    if case == 1 or not space:
        return {"alpha": (1,)}
    if case == 2:
        return {"gamma": (1, *space)}
    if case == 3 or len(space) == 1:
        return {"alpha": (1,), "beta": space}
    return {"alpha": (1,), "beta": (2,), "gamma": (3,)}


def _spread_over(factor: Tensor, dims: tuple[int, ...], ndim: int) -> Tensor:
    size = [1] * ndim
    for d, n in zip(dims, factor.shape, strict=True):
        size[d] = n
    return factor.view(size)


def _materialize(factor: UninitializedParameter, size: tuple[int, ...]) -> None:
    # a tensor made in inference mode could never be trained
    with torch.inference_mode(False), torch.no_grad():
        factor.materialize(size)
        factor.fill_(1.0)


def _take_sizes(method: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Before loading: give the factors without a size the size that they have in the state dict."""
    assert isinstance(method, XNORNetPlusPlus)
    errors: list[str] = rest[-1]
    for name, dims in method._spans.items():
        factor = method.get_parameter(name)
        found = state.get(prefix + name)
        if not isinstance(factor, UninitializedParameter) or found is None:
            continue
        size = tuple(found.shape)
        if len(size) != len(dims) or (dims[0] == 1 and size[0] != method.shape.out_channels):
            wanted = ["out_channels", "height", "width"] if dims[0] == 1 else ["height", "width"][: len(dims)]
            errors.append(
                f"XNORNetPlusPlus: {prefix}{name} must be {wanted} with {method.shape.out_channels} output channels; "
                f"got {list(size)}; the state belongs to another layer or case"
            )
            size = (*(method.shape.out_channels for d in dims if d == 1), *(1 for d in dims if d > 1))
        _materialize(factor, size)


def _refuse_unsized(method: nn.Module, prefix: str, keep_vars: bool) -> None:
    assert isinstance(method, XNORNetPlusPlus)
    method._require_sizes("state_dict")


def _scaled(y: Tensor, factor: Tensor) -> Tensor:
    """y * factor, where every sample has the same factor [1, ...]: both gradients in one pass."""
    if torch.is_grad_enabled() and factor.requires_grad and _may_be_whole(y, factor):
        last = lies_channels_last(y)
        rows = in_order(y.detach(), last).flatten(1).contiguous()
        found = ops.scale_whole(rows, _row(factor.detach(), last))
        if found is not None:
            scaled: Tensor = _ScaledWhole.apply(links(y)[0], factor, y.detach(), *found)  # type: ignore[no-untyped-call]
            return scaled
    result: Tensor = _Scaled.apply(y, factor)  # type: ignore[no-untyped-call]
    return result


def _may_be_whole(y: Tensor, factor: Tensor) -> bool:
    """Whether `ops.scale_whole` may look at the numbers."""
    if torch.compiler.is_compiling() or not passes_unseen((y.detach(), factor.detach())):
        return False
    return y.dtype == factor.dtype == torch.float32 and factor.shape[1:] == y.shape[1:]


def _row(factor: Tensor, last: bool) -> Tensor:
    """factor [1, ...] in the order of memory of y."""
    return in_order(factor, last).flatten().contiguous()


class _ScaledWhole(torch.autograd.Function):
    """The same where y is the whole numbers that a product of signs is: they are kept as 16 bits.

    y_link: what the gradient of y goes to; out, lifted: of `ops.scale_whole`.
    """

    @staticmethod
    def forward(ctx: Any, y_link: Tensor, factor: Tensor, y: Tensor, out: Tensor, lifted: Tensor) -> Tensor:
        ctx.last, ctx.shape, ctx.y_link = lies_channels_last(y), in_order(y, lies_channels_last(y)).shape, y_link
        ctx.save_for_backward(factor, lifted)
        return out_of_order(out.view(ctx.shape), ctx.last)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        factor, lifted = ctx.saved_tensors
        grad = grads[0]
        if torch.is_grad_enabled():  # the result may be differentiated again
            y = linked(ctx.y_link, out_of_order(ops.lowered(lifted).view(ctx.shape), ctx.last))
            return grad * factor, (grad * y).sum(0, keepdim=True), None, None, None
        rows = in_order(grad, ctx.last).flatten(1).contiguous()
        to_y, to_factor = ops.scaled_gradient_of_whole(rows, lifted, _row(factor, ctx.last))
        # the factor lies as torch multiplied its parts, whose gradients it works out next
        to_factor = out_of_order(to_factor.view(1, *ctx.shape[1:]), ctx.last).contiguous()
        return out_of_order(to_y.view(ctx.shape), ctx.last), to_factor, None, None, None


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, factor: Tensor) -> Tensor:
        ctx.last = lies_channels_last(y)
        ctx.save_for_backward(y, factor)
        # torch multiplies two layouts ten times as slowly as one
        return y * (factor.contiguous(memory_format=torch.channels_last) if ctx.last else factor)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        y, factor = ctx.saved_tensors
        grad = grads[0]
        if torch.is_grad_enabled():  # the result may be differentiated again
            return grad * factor, (grad * y).sum(0, keepdim=True)
        grad, y, factor = (in_order(t, ctx.last) for t in (grad, y, factor))
        to_y, to_factor = ops.scaled_gradient.direct(grad.flatten(1), y.flatten(1), factor.flatten())
        # the factor lies as torch multiplied its parts, whose gradients it works out next
        return out_of_order(to_y.view(y.shape), ctx.last), out_of_order(
            to_factor.view(factor.shape), ctx.last
        ).contiguous()
