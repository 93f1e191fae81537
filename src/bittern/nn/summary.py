"""What a model costs: stored bits and multiply-accumulates, layer by layer, by the convention of the papers.

Counting, for one sample (the batch size does not matter):

    BMAC  multiply-accumulates of low-bit layers, times weight_bits * input_bits: the planes of 1-bit products
    FMAC  multiply-accumulates of the other convolutions and linear layers
    OPs   BMAC / 64 + FMAC: a 64-bit word holds 64 products

An output next to the border counts all taps, padding included. Additions, norms, activations, pooling, scales and
the mean |x| that XNOR-Net recomputes count nothing.

    1-bit params   weight_bits for each weight of a low-bit layer
    32-bit params  every other parameter: float layers, biases, gamma and beta of norms, slopes, thresholds, learned
                   scales. Not counted: running statistics (a packed norm is two numbers per channel, as gamma and
                   beta are), scales derived from the latent weights (the norm after the layer takes them in), and
                   modules inside a method, which serve training only (FDA's noise).
    bytes          ceil(1-bit params / 8) + 4 * 32-bit params, per layer

A parameter that several modules share is counted where it first occurs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from bittern.nn._probe import Example, arguments, check_materialized, run_once
from bittern.nn._table import text_table
from bittern.nn.binarize import LowBitLayer

PRODUCTS_PER_OP = 64
"""1-bit products that count as one operation."""
FLOAT_BYTES = 4


class SummaryRow(NamedTuple):
    """Cost of one module that holds parameters of its own, for one sample."""

    name: str
    kind: str
    """Class name; for a low-bit layer with its method."""
    output_shape: tuple[int, ...]
    """Without the batch; () where the example never reaches the module."""
    binary_params: int
    """1-bit parameters: bits of packed weights."""
    float_params: int
    """32-bit parameters."""
    bytes: int
    bmac: int
    fmac: int


@dataclass(frozen=True, repr=False)
class Report:
    """Cost of a model for one sample; `print(report)` shows a table."""

    rows: tuple[SummaryRow, ...]
    """In the order of the forward pass; modules that it does not reach come last."""
    uncounted: tuple[str, ...]
    """Modules with weight matrices whose multiplications no rule here counts (recurrent layers, attention, own)."""

    @property
    def binary_params(self) -> int:
        return sum(row.binary_params for row in self.rows)

    @property
    def float_params(self) -> int:
        return sum(row.float_params for row in self.rows)

    @property
    def bytes(self) -> int:
        return sum(row.bytes for row in self.rows)

    @property
    def bmac(self) -> int:
        return sum(row.bmac for row in self.rows)

    @property
    def fmac(self) -> int:
        return sum(row.fmac for row in self.rows)

    @property
    def ops(self) -> float:
        """BMAC / 64 + FMAC."""
        return self.bmac / PRODUCTS_PER_OP + self.fmac

    def __str__(self) -> str:
        header = ("layer", "type", "output", "1-bit params", "32-bit params", "bytes", "BMAC", "FMAC")
        lines: list[tuple[str, ...]] = []
        for row in self.rows:
            output = "x".join(str(n) for n in row.output_shape) or "-"
            lines.append((row.name or "(model)", row.kind, output, *(f"{n:,}" for n in row[3:])))
        totals = (self.binary_params, self.float_params, self.bytes, self.bmac, self.fmac)
        lines += [(), ("total", "", "", *(f"{n:,}" for n in totals))]
        text = text_table(header, lines, right=range(3, len(header)))
        text += f"\n{self.ops:,.0f} OPs (BMAC / {PRODUCTS_PER_OP} + FMAC), {self.bytes / 2**20:.2f} MiB"
        if self.uncounted:
            text += f"\nmultiplications not counted: {', '.join(name or '(model)' for name in self.uncounted)}"
        return text

    __repr__ = __str__


class _Calls:
    """What a forward pass tells of each module: its first output's shape, its multiply-accumulates over all calls."""

    def __init__(self) -> None:
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.macs: dict[int, int] = {}

    def note(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
        self.shapes.setdefault(id(module), shape)
        macs = _macs(module, inputs, output)
        if macs is not None:
            self.macs[id(module)] = self.macs.get(id(module), 0) + macs


def summary(model: nn.Module, example: Example) -> Report:
    """Count what `model` stores and computes for one sample of `example`; the module docstring has the convention.

    example: an input, or the tuple of the positional arguments; every tensor has the batch first. One sample of it
    runs through the model once, in eval mode and without gradients; the model is left as it was.
    -> Report with `.rows`, the totals `.bmac .fmac .ops .bytes .binary_params .float_params`, and a table for print.

    Raises: ValueError for an empty batch and for parameters that have no size yet; TypeError when `example` holds
    anything but tensors.
    """
    args = arguments("summary", example)
    if any(arg.ndim == 0 or arg.shape[0] == 0 for arg in args):
        raise ValueError(f"summary: example needs a batch of at least one; got {[list(a.shape) for a in args]}")
    check_materialized("summary", model)
    calls = _Calls()
    run_once(model, tuple(arg[:1] for arg in args), calls.note)
    modules = _owners(model)
    order = {key: i for i, key in enumerate(calls.shapes)}
    modules.sort(key=lambda named: order.get(id(named[1]), len(order)))
    counted: set[int] = set()
    rows = tuple(_row(name, module, calls, counted) for name, module in modules)
    return Report(rows, tuple(name for name, module in modules if _is_uncounted(module)))


def _owners(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Modules that hold parameters of their own or are low-bit layers, without the insides of the latter."""
    found: list[tuple[str, nn.Module]] = []
    inside: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, LowBitLayer):
            inside.update(id(child) for child in module.modules() if child is not module)
        if id(module) not in inside and next(module.parameters(recurse=False), None) is not None:
            found.append((name, module))
    return found


def _row(name: str, module: nn.Module, calls: _Calls, counted: set[int]) -> SummaryRow:
    low_bit = isinstance(module, LowBitLayer)
    binary = floats = 0
    kind = type(module).__name__
    parameters = list(module.parameters(recurse=False))
    planes = 1
    if isinstance(module, LowBitLayer):
        kind += f"[{type(module.method).__name__}]"
        parameters += module.method.parameters(recurse=False)
        planes = module.method.weight_bits * module.method.input_bits
    for parameter in parameters:
        if id(parameter) in counted:
            continue
        counted.add(id(parameter))
        if isinstance(module, LowBitLayer) and parameter is module.weight:
            binary += parameter.numel() * module.method.weight_bits
        else:
            floats += parameter.numel()
    macs = calls.macs.get(id(module), 0)
    return SummaryRow(
        name,
        kind,
        calls.shapes.get(id(module), ()),
        binary,
        floats,
        math.ceil(binary / 8) + FLOAT_BYTES * floats,
        macs * planes if low_bit else 0,
        0 if low_bit else macs,
    )


def _macs(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int | None:
    """Multiply-accumulates of one call on one sample; None for a module that no rule covers."""
    if isinstance(module, LowBitLayer):
        return output.numel() * module.method.shape.fan_in
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return inputs[0].numel() * math.prod(module.weight.shape[1:])
    if isinstance(module, nn.modules.conv._ConvNd):
        return output.numel() * math.prod(module.weight.shape[1:])
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    if isinstance(module, nn.Bilinear):
        # each output: x1^T W x2, that is in1 * in2 products with W and in1 with x1
        return output.numel() * module.in1_features * (module.in2_features + 1)
    return None


def _is_uncounted(module: nn.Module) -> bool:
    without_products = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm, nn.PReLU)
    covered = (LowBitLayer, nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, *without_products)
    return not isinstance(module, covered) and any(p.ndim >= 2 for p in module.parameters(recurse=False))
