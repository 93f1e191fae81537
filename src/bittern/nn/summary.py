# SPDX-License-Identifier: Apache-2.0
"""What a model costs: stored bits and multiply-accumulates, layer by layer, by the convention of the papers.

Counting, for one sample (the batch size does not matter):

    BMAC  multiply-accumulates of low-bit layers, times the bits of their weights' and inputs' codes: 1-bit products;
          and those of attention whose operands have one bit (`AttentionMethod`)
    FMAC  all other multiply-accumulates of matrix products and convolutions: of layers, of frozen 4- and 8-bit layers,
          and of what a forward computes by functions (attention, F.linear, recurrent cells), in the row of the module
          whose forward it is
    OPs   BMAC / 64 + FMAC: a 64-bit word holds 64 products

An output next to the border counts all taps, padding included. Not counted: additions, norms, activations, pooling,
look-ups, scales, and the mean |x| that XNOR-Net recomputes. `Report.uncounted` names modules with a weight matrix
whose products were not seen.

    1-bit params    the bits of its code for each weight of a low-bit layer that the forward calls
    4/8-bit params  weights of Linear4bit, Linear8bit, LinearGroups and LinearMXFP4
    float params    every other parameter: float layers, biases, gamma and beta of norms, slopes, thresholds, learned
                    scales, and the weight of a low-bit layer that the forward never calls or reads itself, which no
                    packing can shrink. Not counted: running statistics (a packed norm is two numbers per channel, as
                    gamma and beta are) and other buffers, scales derived from the latent weights (the norm after the
                    layer takes them in), and modules inside a method, which serve training only (FDA's noise).
    bytes           ceil(1-bit params / 8), codes with their scales and tables, and the float params in their type

A parameter that several modules share is counted where it first occurs; one that is used as bits and as numbers, once
as either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from bittern.attention_method import AttentionMethod
from bittern.nn._probe import Example, arguments, check_materialized
from bittern.nn._table import text_table
from bittern.nn._watch import Watched, watch
from bittern.nn.cost import CostedLayer

PRODUCTS_PER_OP = 64
"""1-bit products that count as one operation."""

_NEVER_COUNTED = "additions, norms, activations, pooling, look-ups and scales"


class SummaryRow(NamedTuple):
    """Cost of one module that holds parameters of its own, or multiplies itself, for one sample."""

    name: str
    kind: str
    """Class name; for a low-bit layer with its method."""
    output_shape: tuple[int, ...]
    """Without the batch; () where the example never reaches the module."""
    binary_params: int
    """1-bit parameters: bits of packed weights."""
    float_params: int
    """Parameters in floating point."""
    bytes: int
    bmac: int
    fmac: int
    code_params: int = 0
    """Weights frozen in codes of 4 or 8 bits."""


@dataclass(frozen=True, repr=False)
class Report:
    """Cost of a model for one sample; `print(report)` shows a table, and below it what no number includes."""

    rows: tuple[SummaryRow, ...]
    """In the order of the forward pass; modules that it does not reach come last."""
    uncounted: tuple[str, ...]
    """Modules with weight matrices that ran without a product that was seen."""
    notes: tuple[str, ...] = ()
    """Where a number needs a word: what is counted elsewhere, or not at all."""

    @property
    def binary_params(self) -> int:
        return sum(row.binary_params for row in self.rows)

    @property
    def code_params(self) -> int:
        return sum(row.code_params for row in self.rows)

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
        header = ["layer", "type", "output", "1-bit params", "4/8-bit params", "float params", "bytes", "BMAC", "FMAC"]
        lines: list[list[str]] = []
        for row in self.rows:
            output = "x".join(str(n) for n in row.output_shape) or "-"
            lines.append([row.name or "(model)", row.kind, output, *map(_thousands, _numbers(row))])
        lines += [[], ["total", "", "", *map(_thousands, _numbers(self))]]
        if not self.code_params:
            for line in (header, *lines):
                del line[4:5]
        text = text_table(header, lines, right=range(3, len(header)))
        text += f"\n{self.ops:,.0f} OPs (BMAC / {PRODUCTS_PER_OP} + FMAC), {self.bytes / 2**20:.2f} MiB"
        if self.uncounted:
            text += f"\nmultiplications not counted: {', '.join(name or '(model)' for name in self.uncounted)}"
        return "\n".join([text, *self.notes])

    __repr__ = __str__


def summary(model: nn.Module, example: Example) -> Report:
    """Count what `model` stores and computes for one sample of `example`; the module docstring has the convention.

    example: an input, or the tuple of the positional arguments; every tensor has the batch first. One sample of it
    runs through the model once, in eval mode and without gradients; the model is left as it was.
    -> Report with `.rows`, the totals `.bmac .fmac .ops .bytes .binary_params .code_params .float_params`, and a table
    for print.

    Raises: ValueError for an empty batch and for parameters that have no size yet; TypeError when `example` holds
    anything but tensors.
    """
    args = arguments("summary", example)
    if any(arg.ndim == 0 or arg.shape[0] == 0 for arg in args):
        raise ValueError(
            f"summary: example needs a batch of at least one; got {[list(a.shape) for a in args]}; "
            "every tensor has the batch first"
        )
    check_materialized("summary", model)
    watched = watch(model, tuple(arg[:1] for arg in args), (CostedLayer,), products=True)
    modules = _counted(model, watched)
    order = {key: i for i, key in enumerate(watched.called)}
    modules.sort(key=lambda named: order.get(id(named[1]), len(order)))
    seen: set[tuple[int, bool]] = set()
    rows = tuple(_row(name, module, watched, seen) for name, module in modules)
    uncounted = tuple(name for name, module in modules if _is_uncounted(module, watched))
    return Report(rows, uncounted, _notes(model, modules, watched))


def _counted(model: nn.Module, watched: Watched) -> list[tuple[str, nn.Module]]:
    """Modules with parameters or products of their own, and layers that say what they cost, without their insides."""
    found: list[tuple[str, nn.Module]] = []
    inside: set[int] = set()
    for name, module in model.named_modules():
        costed = isinstance(module, CostedLayer)
        if costed:
            inside.update(id(child) for child in module.modules() if child is not module)
        holds = costed or next(module.parameters(recurse=False), None) is not None
        if id(module) not in inside and (holds or watched.macs.get(id(module))):
            found.append((name, module))
    return found


def _row(name: str, module: nn.Module, watched: Watched, seen: set[tuple[int, bool]]) -> SummaryRow:
    kind = type(module).__name__
    shape = watched.shapes.get(id(module), ())
    if not isinstance(module, CostedLayer):
        floats, size = _floats(list(module.parameters(recurse=False)), seen)
        products = watched.macs.get(id(module), 0)
        if isinstance(module, AttentionMethod):
            return SummaryRow(name, kind, shape, 0, floats, size, products, 0)
        return SummaryRow(name, kind, shape, 0, floats, size, 0, products)
    cost = module.cost(watched.outputs.get(id(module), 0))
    stored, parameters = cost, list(cost.real)
    if cost.latent is not None:
        if id(module) not in watched.called or (id(cost.latent), True) in seen:
            stored = cost._replace(bytes=0, bits=0, codes=0)
        if id(module) in watched.called:
            seen.add((id(cost.latent), True))
        if id(module) not in watched.called or id(cost.latent) in watched.readers:
            parameters.insert(0, cost.latent)
    floats, size = _floats(parameters, seen)
    kind = f"{kind}[{cost.method}]" if cost.method else kind
    sizes = (stored.bits, floats, stored.bytes + size, cost.binary_macs, cost.macs, stored.codes)
    return SummaryRow(name, kind, shape, *sizes)


def _floats(parameters: Sequence[nn.Parameter], seen: set[tuple[int, bool]]) -> tuple[int, int]:
    """How many numbers the parameters that were not seen before hold, and in how many bytes."""
    new = [p for p in parameters if (id(p), False) not in seen]
    seen.update((id(p), False) for p in new)
    return sum(p.numel() for p in new), sum(p.numel() * p.element_size() for p in new)


def _is_uncounted(module: nn.Module, watched: Watched) -> bool:
    without_products = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm, nn.PReLU)
    if isinstance(module, (CostedLayer, *without_products)) or id(module) not in watched.called:
        return False
    return not watched.macs.get(id(module)) and any(p.ndim >= 2 for p in module.parameters(recurse=False))


def _notes(model: nn.Module, modules: Sequence[tuple[str, nn.Module]], watched: Watched) -> tuple[str, ...]:
    costs = {name: (id(m), m.cost(0)) for name, m in modules if isinstance(m, CostedLayer)}
    low_bit = {name: (key, cost.latent) for name, (key, cost) in costs.items() if cost.latent is not None}
    idle = [name for name, (key, _) in low_bit.items() if key not in watched.called]
    read = [name for name, (key, w) in low_bit.items() if key in watched.called and id(w) in watched.readers]
    own = [name for name, m in modules if watched.macs.get(id(m)) and not isinstance(m, (*_LAYERS, CostedLayer))]
    apart = {id(b) for m in model.modules() if isinstance(m, CostedLayer) for b in m.buffers()}
    left = sum(buffer.nbytes for buffer in model.buffers() if id(buffer) not in apart)
    notes = []
    if idle:
        notes.append(f"low-bit, but never called, so that their weights count as float: {_listed(idle)}")
    if read:
        notes.append(
            f"low-bit, but the forward reads their weights itself, so that these count as float too: {_listed(read)}"
        )
    if own:
        notes.append(f"FMAC of functions that a forward calls itself, not of a layer: {_listed(own)}")
    return (*notes, f"not counted: {_NEVER_COUNTED}" + (f"; {left:,} bytes of buffers" if left else ""))


_LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.RNNBase, nn.RNNCellBase)
"""Layers of torch whose products are those of their weights."""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name or "(model)" for name in names)


def _numbers(counts: SummaryRow | Report) -> tuple[int, ...]:
    return counts.binary_params, counts.code_params, counts.float_params, counts.bytes, counts.bmac, counts.fmac


def _thousands(number: int) -> str:
    return f"{number:,}"
