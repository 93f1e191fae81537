# SPDX-License-Identifier: Apache-2.0
"""A packed program as a torch module of ordinary operators, which torch.onnx exports.

Where a call chooses sizes, a node whose attributes depend on them is made while torch.export watches, from its symbols
(`open_sizes`); a node that fixes one of them is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, fx, nn

from bittern.codes import Code, Signs
from bittern.deploy import split_products
from bittern.deploy.errors import ExportError
from bittern.deploy.export_arguments import advice
from bittern.deploy.kinds.binary import BinaryStep
from bittern.deploy.kinds.channel_scales import channel_scale
from bittern.deploy.kinds.integer import INTEGER_KINDS
from bittern.deploy.kinds.kind import Step, integer
from bittern.deploy.kinds.node_codes import input_code
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.named_sizes import Sizes, fixed
from bittern.deploy.onnx import low_bit, recurrent
from bittern.deploy.onnx.dialect import Dialect
from bittern.deploy.onnx.low_bit import CPU, PRODUCT
from bittern.deploy.onnx.open_sizes import Symbols, fixed_names, has_sizes, symbols_of, with_symbols
from bittern.deploy.part_by_part import tensors_of
from bittern.deploy.program import Node, Program
from bittern.deploy.size_expression import BATCH
from bittern.deploy.unseen import describe_failure

Tensors = Mapping[str, Tensor]


CALLS = "calls"
"""Where a module has one of its own for each node of a program: torch.export notes in which it is."""


INTEGERS = frozenset(kind.name for kind in INTEGER_KINDS)


class Lowered(NamedTuple):
    """How one node is exported."""

    constants: dict[str, Tensor]
    """What goes into the file."""
    call: Callable[[Tensors], Step]
    """The computation, from those constants; called while torch.export watches."""


class Parts:
    """What each node of a program, its products split (`low_bit.split`), becomes.

    dialect: how low-bit values are written.
    """

    def __init__(self, program: Program, tensors: Tensors, dialect: Dialect) -> None:
        self.program = program
        self.tensors = tensors
        self.dialect = dialect
        self._steps: dict[int, BinaryStep] = {}

    def at(self, sizes: Sizes) -> Parts:
        """The same at these named sizes; at none where the program has none."""
        return Parts(fixed(self.program, sizes), self.tensors, self.dialect)

    def of(self, node: Node) -> Lowered:
        """What a node becomes."""
        tensors, dialect = node.named(self.tensors), self.dialect
        match node.kind:
            case "encode":
                return Lowered(low_bit.encode_constants(node, tensors), lambda c: low_bit.encode(node, c, dialect))
            case "threshold":
                product = self.producer(node)
                found = low_bit.threshold_constants(node, tensors, product, self.binary_step(product))
                return Lowered(found, lambda c: low_bit.threshold(c, dialect))
            case "pool_bits":
                return Lowered(low_bit.pool_constants(node, tensors), lambda c: low_bit.pool(node, c))
            case "concatenate_bits":
                return Lowered({}, lambda c: low_bit.concatenate(-1 if self.rows(node.inputs[0]) else 1))
            case low_bit.PRODUCT:
                return Lowered(low_bit.product_constants(node, tensors), lambda c: low_bit.product(node, c, dialect))
            case low_bit.TAIL:
                found = low_bit.tail_constants(node, self.binary_step(self.producer(node)))
                return Lowered(found, low_bit.tail)
            case "ones_product":
                return Lowered(low_bit.ones_constants(node, tensors), lambda c: low_bit.ones(node, c))
            case "sign_residual":
                raise ExportError(
                    f"to_onnx: node {node.name!r} takes the mean off an input before its sign, and a runtime adds that "
                    "mean in an order of its own, so that signs would turn; run the packed model"
                )
            case "multibit_linear":
                raise ExportError(
                    f"to_onnx: node {node.name!r} finds the planes of its input by {node.attrs['cycles']} cycles of "
                    "least squares, for which ONNX has no operators that round alike; run the packed model"
                )
            case kind if kind in INTEGERS:
                raise ExportError(
                    f"to_onnx: node {node.name!r} is of kind {kind!r}, and integers are not written between real "
                    "nodes; run the packed model"
                )
            case split_products.INPUT_SCALE:
                return Lowered({}, lambda c: split_products.scale_by_input(node))
            case "factors":
                return Lowered({"gamma": channel_scale(node, tensors)}, lambda c: lambda y: y * c["gamma"])
            case "affine":
                alpha, beta = tensors["affine"]
                return Lowered({"alpha": alpha, "beta": beta}, low_bit.affine)
            case "sign":
                return Lowered({}, lambda c: dialect.sign)
            case "shifted_sign":
                return Lowered(tensors, lambda c: low_bit.shifted_sign(c["shift"], dialect))
            case "aten" if recurrent.is_recurrent(node):
                return Lowered(recurrent.constants(node, tensors), lambda c: recurrent.step(_in_any_layout(node), c))
            case "aten" if node.attrs["operator"] == SIGN_PRODUCTS:
                return Lowered({}, lambda c: lambda a, b: dialect.sign(a) @ dialect.sign(b).transpose(-2, -1))
            case _:
                return Lowered(tensors, lambda c: KINDS[node.kind].build(_in_any_layout(node), c, CPU))

    def binary_step(self, product: Node) -> BinaryStep:
        """What the packed model computes at a product, unpacked once."""
        if product.output not in self._steps:
            self._steps[product.output] = BinaryStep(product, product.named(self.tensors), CPU)
        return self._steps[product.output]

    def producer(self, node: Node) -> Node:
        """What wrote the first input of a low-bit node."""
        return self.writer(node.inputs[0])

    def writer(self, value: int) -> Node:
        """What wrote a value that is not the input."""
        node = self.program.producer(value)
        assert node is not None
        return node

    def rows(self, value: int) -> bool:
        """Whether the channels of a low-bit value are its last dimension."""
        node = self.writer(value)
        if node.kind in ("encode", PRODUCT):
            return integer(node, "dims") == 0
        return node.kind != "pool_bits" and self.rows(node.inputs[0])

    def grid(self, value: int) -> Code:
        """Which numbers a low-bit value holds."""
        node = self.writer(value)
        if node.kind == "encode":
            return input_code(node)
        return self.grid(node.inputs[0]) if node.kind in ("pool_bits", "concatenate_bits") else Signs()


def _in_any_layout(node: Node) -> Node:
    """An operator of torch that reads its inputs as they lie: layout means nothing to other runtimes."""
    if node.kind != "aten":
        return node

    def plain(argument: Any) -> Any:
        if isinstance(argument, list):
            return [plain(entry) for entry in argument]
        if isinstance(argument, dict) and "input" in argument:
            return {"input": argument["input"]}
        return argument

    return node.with_attrs(arguments=plain(node.attrs["arguments"]))


SIGN_PRODUCTS = "bittern::sign_products.default"
"""An operator of Bittern's own, which no other runtime has."""


class _Call(nn.Module):
    """One node of a program."""

    def forward(self, step: Callable[[Sequence[Any]], Any], given: Sequence[Any]) -> Any:
        return step(given)


class OnnxModule(nn.Module):
    """A program over buffers. Call with its inputs -> the values `results`, flat, in their order."""

    def __init__(self, parts: Parts, results: tuple[int, ...]) -> None:
        super().__init__()
        self._parts = parts
        self._nodes = [(node, parts.of(node)) for node in parts.program.nodes]
        self._results = results
        self.add_module(CALLS, nn.ModuleList(_Call() for _ in self._nodes))
        for index, (_, part) in enumerate(self._nodes):
            for role, tensor in part.constants.items():
                self.register_buffer(f"node{index}_{role}", tensor.detach().contiguous())

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Raises: ExportError naming the node that takes no open sizes."""
        values: dict[int, Any] = dict(enumerate(inputs))
        symbols = symbols_of(self._parts.program, inputs)
        for index, (node, part) in enumerate(self._nodes):
            constants = {role: self.get_buffer(f"node{index}_{role}") for role in part.constants}
            given = [values[v] for v in node.inputs]
            call = self.get_submodule(f"{CALLS}.{index}")
            values[node.output] = call(partial(self._called, node, part, constants, symbols), given)
        found: list[Tensor] = []
        for v in self._results:
            found += tensors_of(values[v])
        return tuple(found)

    def _called(self, node: Node, part: Lowered, constants: Tensors, symbols: Symbols, given: Sequence[Any]) -> Any:
        if not symbols:
            return part.call(constants)(*given)
        own = self._parts.of(with_symbols(node, symbols)) if has_sizes(node) else part
        try:
            found = own.call(constants)(*given)
        except Exception as error:
            raise not_open(self._parts.program, node_in_words(node), describe_failure(error)) from error
        if gone := fixed_names(symbols):
            raise not_open(self._parts.program, node_in_words(node), f"it takes {' and '.join(gone)} for a number")
        return found


def node_in_words(node: Node) -> str:
    """node 'resize' (upsample_nearest2d.vec)."""
    return f"node {node.name!r} ({node.attrs['operator'] if node.kind == 'aten' else node.kind})"


def written_by(program: Program, call: fx.Node) -> str:
    """The node of a program, in words, that a call of torch's graph is part of; "" for one that is part of none."""
    paths = [str(path) for path, _ in (call.meta.get("nn_module_stack") or {}).values()]
    found = [path.removeprefix(f"{CALLS}.") for path in paths if path.startswith(f"{CALLS}.")]
    return node_in_words(program.nodes[int(found[-1])]) if found else ""


def not_open(program: Program, node: str, why: str) -> ExportError:
    """What to say of a node that cannot be written with names for sizes."""
    names = " and ".join(size.name for size in program.sizes) or BATCH
    choose = f"; write the model for one choice, as in {advice(program)}" if program.sizes else ""
    return ExportError(f"to_onnx: {node} cannot be written while {names} may be anything: {why}{choose}")
