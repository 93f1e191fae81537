# SPDX-License-Identifier: Apache-2.0
"""A network whose layers run in integers: called like the model that it was made of, trained, and packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import bittern._version as version
from bittern._autocast import in_own_precision
from bittern.deploy import image_info
from bittern.deploy.errors import PackError
from bittern.deploy.fold import fold
from bittern.deploy.packed import Packed
from bittern.deploy.parameters import bound
from bittern.deploy.plain import plain_cpu
from bittern.deploy.program import Node
from bittern.deploy.validate import check_program
from bittern.ptq.batches import program_inputs, read_batches
from bittern.ptq.grid import Grid
from bittern.ptq.integer_ends import with_ends
from bittern.ptq.numbers import owner, reads
from bittern.ptq.plan import Facts, Unit
from bittern.ptq.products import Product, quantized, usable_scales
from bittern.ptq.report import Report, RoundedBlock, Spent, measured
from bittern.ptq.rewrite import Written, written
from bittern.ptq.training import on_weight_grid, trained_forward
from bittern.ptq.writer import Weights

if TYPE_CHECKING:
    from bittern.data import ImageData


class QuantizedLayer(nn.Module):
    """The latent numbers of one product, of which its integers are made."""

    scales: Tensor

    def __init__(self, name: str, node: str, product: Product, bits: int, scales: Tensor, x: Grid, out: Grid) -> None:
        """node: the name of the one that it is of; that of the layer, but for one of several products."""
        super().__init__()
        self.name, self.node, self.bits, self.x = name, node, bits, x
        self.weight = nn.Parameter(product.weight.detach().clone())
        self.bias = nn.Parameter(product.bias.detach().clone())
        self.register_buffer("scales", usable_scales(product, scales, x, out))

    def on_grids(self, x: Grid, out: Grid) -> None:
        """Read and write other grids."""
        self.x = x
        self.scales.copy_(usable_scales(self.product, self.scales, x, out))

    @property
    def product(self) -> Product:
        return Product(self.weight, self.bias)

    def integers(self) -> Weights:
        """The integers of its numbers now."""
        return quantized(self.product, self.scales, self.x, self.bits)

    def rounded(self) -> Product:
        """The real numbers of its integers, with straight-through gradients to its own."""
        return on_weight_grid(self.product, self.integers(), self.x, self.bits)


class QuantizedNetwork(nn.Module):
    """A network of integers; made by `bittern.quantize`.

    Call it as the model was called, with floats; it answers floats. In eval mode the answer is that of the packed
    program, integer by integer. In training mode it is the same numbers with straight-through gradients to the latent
    weights and biases (`layers`), so that the network can be fine-tuned; ranges and scales stay as calibrated, and
    batch norms are part of the weights.
    """

    def __init__(
        self,
        facts: Facts,
        units: Sequence[Unit],
        grids: Mapping[int, Grid],
        products: Mapping[str, tuple[Product, int]],
        scales: Callable[[Tensor, int], Tensor],
        model_name: str,
        seen: Sequence[Sequence[Tensor]],
    ) -> None:
        """products: by name, with the bits of its weight; scales: (weight, bits) -> float64 [out].

        seen: inputs on which `report` measures.
        """
        super().__init__()
        self.facts, self.units, self.grids, self.model_name = facts, tuple(units), dict(grids), model_name
        self.layers = nn.ModuleList()
        for name, (product, bits) in products.items():
            node = owner((unit.node for unit in units), name)
            own = scales(product.weight, bits)
            self.layers.append(QuantizedLayer(name, node.name, product, bits, own, *self._ends(node, name)))
        self._scales = scales
        self.spent: Spent | None = None
        """What a budget made of the bits of its layers, where there was one."""
        self.rounded: tuple[RoundedBlock, ...] = ()
        """What was rounded together, where rounding was learned."""
        self._seen = [list(inputs) for inputs in seen]
        self._made: tuple[tuple[Any, ...], Packed] | None = None

    def own_layers(self) -> list[QuantizedLayer]:
        return [layer for layer in self.layers if isinstance(layer, QuantizedLayer)]

    def set_bits(self, bits: Mapping[str, int]) -> None:
        """Other bits, and scales, of the weights of layers, by their names; the latent numbers stay."""
        for layer in self.own_layers():
            if layer.name in bits:
                unit = next(unit for unit in self.units if unit.node.name == layer.name)
                layer.bits = bits[layer.name]
                layer.scales.copy_(self._scales(layer.weight.detach(), layer.bits))
                layer.on_grids(layer.x, self.grids[unit.output])
        self._made = None

    def set_scales(self, scales: Mapping[int, float]) -> None:
        """Other scales of the grids of values; the zeros stay. Layers read them from now on."""
        self.grids |= {value: self.grids[value]._replace(scale=scale) for value, scale in scales.items()}
        nodes = {unit.node.name: unit.node for unit in self.units}
        for layer in self.own_layers():
            layer.on_grids(*self._ends(nodes[layer.node], layer.name))
        self._made = None

    def _ends(self, node: Node, name: str) -> tuple[Grid, Grid]:
        """The grids of what a product of a node reads and writes."""
        behind = {unit.node.output: unit.output for unit in self.units}
        return self.grids[behind.get(reads(node, name), reads(node, name))], self.grids[behind[node.output]]

    def written(self) -> Written:
        """The integer program of the numbers that it has now."""
        weights = {layer.name: layer.integers() for layer in self.own_layers()}
        return written(self.facts, self.units, self.grids, weights)

    @property
    def report(self) -> Report:
        """What each layer became, and how far it is from the float network's on some of the calibration data."""
        return self._measured(self._seen)

    def measure(self, data: Any) -> Report:
        """The report on other data, given as `calibration` is. Raises: TypeError, ValueError."""
        batches = read_batches(len(self.facts.program.parameters) == 1, data)
        return self._measured(program_inputs(self.facts.program, batches))

    def _measured(self, inputs: Sequence[Sequence[Tensor]]) -> Report:
        bits = {layer.node: layer.bits for layer in self.own_layers()}
        with plain_cpu():
            return measured(self.facts, self.units, self.grids, self.written(), bits, inputs, self.rounded, self.spent)

    @in_own_precision
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not self.training:
            return self._packed()(*args, **kwargs)
        inputs = bound(self.facts.program.parameters, args, kwargs)
        products = {layer.name: layer.rounded() for layer in self.own_layers()}
        return trained_forward(self.facts, self.units, self.grids, self.written(), products, inputs)

    def pack(
        self,
        *,
        classes: Sequence[str] | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        data: ImageData | None = None,
        input_type: str = "float32",
        output_type: str = "float32",
    ) -> Packed:
        """The network as one packed model, whose answers are those of eval mode; arguments are those of `bittern.pack`.

        input_type: "int8" for a model that takes the integers of its first layer, or "uint8" for one that takes the
        bytes of images: the normalization by mean and std is then part of it. output_type: "int8" for one that answers
        integers. `info` has the scale and the zero of both: real = scale * (integer - zero).

        Raises: PackError for class names, mean and std that do not fit, and for an end that a layer of floats has.
        """
        packed = self._packed()
        channels = packed.inputs[0].shape[0] if packed.takes_one_tensor and packed.inputs[0].shape else None
        images = image_info.given(channels, classes, mean, std, data)
        answers = self.facts.forms[self.facts.program.output].shape
        problem = images.problem(channels, answers[1] if len(answers) == 2 else None)
        if problem is not None:
            raise PackError(f"pack: {problem}")
        ends = with_ends(packed.program, packed.tensors, images, input_type, output_type)
        with plain_cpu():
            check_program(ends.program, ends.tensors)
        info = packed.info | ends.images.to_info() | ends.info
        return Packed(ends.program, ends.tensors, info, torch.device("cpu"))

    def _packed(self) -> Packed:
        """The packed program of the numbers that it has now, made anew when one of them changed."""
        state = tuple((p.data_ptr(), p._version) for p in (*self.parameters(), *self.buffers()))
        if self._made is None or self._made[0] != state:
            found = self.written()
            with plain_cpu():
                program, tensors = fold(found.program, found.tensors)
                check_program(program, tensors)
                info = {"bittern": version.__version__, "model": self.model_name, "quantized": "integers"}
                self._made = state, Packed(program, tensors, info, torch.device("cpu"))
        return self._made[1]

    def __deepcopy__(self, memo: dict[int, Any]) -> QuantizedNetwork:
        """A copy with parameters of its own; the packed program is made anew."""
        import copy

        made, self._made = self._made, None
        try:
            twin = self.__class__.__new__(self.__class__)
            memo[id(self)] = twin
            twin.__dict__ = {key: copy.deepcopy(value, memo) for key, value in self.__dict__.items()}
        finally:
            self._made = made
        return twin
