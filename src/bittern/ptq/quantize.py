# SPDX-License-Identifier: Apache-2.0
"""quantize: from a trained network and some of its inputs to a network of integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from bittern.deploy.errors import FormatError, PackError
from bittern.deploy.front import read
from bittern.deploy.front.dynamic import read_dynamic
from bittern.deploy.front.example import read_example
from bittern.deploy.kinds.integer import INTEGER_KINDS
from bittern.deploy.packed import Packed
from bittern.deploy.plain import plain_cpu
from bittern.deploy.program import Node, Program
from bittern.deploy.shapes import forms_of
from bittern.deploy.unseen import check_seen
from bittern.deploy.unwrap import unwrapped
from bittern.ptq.attention import with_products
from bittern.ptq.batches import example_of, first_samples, program_inputs, read_batches, takes_one
from bittern.ptq.budget import Budget, Floor, check_floor, spend
from bittern.ptq.calibrate import Groups, MakeObserver, bits_of, calibrated, with_states
from bittern.ptq.channel_scales import with_channel_scales
from bittern.ptq.fold import folded
from bittern.ptq.layerwise import correct_bias, layer_by_layer
from bittern.ptq.learned import Rounding, learn_rounding
from bittern.ptq.native import with_layers
from bittern.ptq.network import QuantizedNetwork
from bittern.ptq.numbers import products_of
from bittern.ptq.observers import MinMax
from bittern.ptq.plain_moves import with_plain_moves
from bittern.ptq.plan import Facts, Unit, check_patterns, matches, plan
from bittern.ptq.products import MakeSteps, weight_scales
from bittern.ptq.sequences import with_recurrent
from bittern.ptq.sharing import equalized
from bittern.ptq.steps import channel_steps, check_bits


class Bits(NamedTuple):
    """Of one layer: of its weights, and of what it reads."""

    weights: int = 8
    inputs: int = 8


def quantize(
    model: nn.Module | Packed,
    calibration: Any,
    *,
    weights: int = 8,
    inputs: int = 8,
    layers: Mapping[str, Bits] | None = None,
    observer: MakeObserver = MinMax,
    per_channel: bool = True,
    weight_steps: MakeSteps = channel_steps,
    rounding: Rounding | None = None,
    keep: Sequence[str] = (),
    equalize: bool = False,
    channel_scales: float | None = None,
    bias_correction: bool = False,
    budget: Budget | None = None,
    floor: Floor | None = None,
) -> QuantizedNetwork:
    """Make a network of integers of a trained one.

    model: a module of float32 on the CPU; it is read in eval mode, as `bittern.pack` reads it, and left as it was. Or a
    packed model of floats, such as `bittern.compat.tflite.load` makes of a float file.
    calibration: one tensor of typical inputs [samples, ...], or batches as the model is called with them, some hundred
    samples together; of pairs (inputs, labels) the inputs are taken. All are held in memory.
    weights, inputs: bits, 2 ... 8, of the weights of convolutions and linear layers, and of what these read. What
    enters the network, and what only sums, pools and functions of one number read, has 8 bits.
    layers: other bits by the names of layers or modules with weights, with * and ?; the first pattern that fits counts.
    observer: which range a value has (`bittern.ptq.OBSERVERS`), a class or a partial of one.
    per_channel: a scale for each output channel of a weight, or one for all.
    weight_steps: which scale that is: `bittern.ptq.channel_steps`, at which the largest weight is the largest integer,
    `least_squares_channel_steps`, whose integers lie nearest to the weights, or a partial of it; it pays below 8 bits.
    rounding: how weights become integers: None for the nearest. `bittern.ptq.AdaRound()` learns it on the calibration
    data, layer by layer; `BRECQ()` and `QDrop()` block by block, and the scales within blocks with it. That pays below
    8 bits, and takes a training of each part.
    keep: names of layers or modules that stay float, with * and ?; one that names nothing is an error.
    equalize: neighbouring layers share their channels' ranges first (`ptq.equalize`); for weights with one scale.
    channel_scales: strength, above 0 up to 1, to which the channels of a value are brought to one range (1) or left
    (None), so that small ones keep precision (`ptq.channel_scales` has the formula); for deep networks of depthwise
    layers and of joined values, at 0.5.
    bias_correction: biases take back by how much the mean of each channel moved on the calibration data.
    budget: of the file or of a call; layers that `layers` does not name get bits of weights, at most `weights`, that
    keep it and harm the answers on the calibration data least. floor: the least that a metric of yours must give then.

    Batch norms go into the weights beside them. What has no integer kind stays float between a node `dequantize` and a
    node `quantize`; `report` of the result lists it with the reason, and says of each layer how far it is from the
    float network.

    Raises: TypeError, ValueError for arguments that do not fit; PackError for a model that cannot be read; ValueError
    where the calibration data make NaN or infinity, where sums leave int32, where nothing is left in integers, and
    where no bits keep the budget and the floor, with the best that there are.
    """
    _check_model(model)
    if floor is not None and budget is None:
        raise ValueError("quantize: a floor says what a budget must leave; give budget=ptq.Budget(...) too")
    check_bits("quantize: weights", weights)
    check_bits("quantize: inputs", inputs)
    for pattern, own in (layers or {}).items():
        for part in own:
            check_bits(f"quantize: layers[{pattern!r}]", part)
    if isinstance(model, Packed):
        batches, name = read_batches(model.takes_one_tensor, calibration), model.info.get("model", "packed model")
    else:
        module: nn.Module = unwrapped(model)
        batches, name = read_batches(takes_one(module), calibration), type(module).__name__
    with plain_cpu():
        facts = (
            _facts_of_packed(model, keep) if isinstance(model, Packed) else _facts(module, example_of(batches[0]), keep)
        )
        given = program_inputs(facts.program, batches)
        units = plan(facts, keep)
        _check_some(units)
        facts = equalized(facts, units) if equalize else facts
        facts = facts if channel_scales is None else with_channel_scales(facts, units, given, channel_scales)
        groups = Groups(facts, units)
        products = [unit.node for unit in units if unit.reason is None and unit.rule.leads]
        wanted = _bits(products, Bits(weights, inputs), layers or {})
        bits = bits_of(facts, units, groups, {node.output: wanted[node.name].inputs for node in products})
        grids = calibrated(facts, given, groups, bits, observer, _names(facts))
        facts = with_states(facts, units, given)
        numbers = {
            name: (product, wanted[node.name].weights)
            for node in products
            for name, product in products_of(node, facts.tensors).items()
        }
        seen = first_samples(facts.program, given)
        scales = partial(weight_scales, per_channel=per_channel, steps=weight_steps)
        network = QuantizedNetwork(facts, units, grids, numbers, scales, name, seen).eval()
        network.written()
        if budget is not None:
            free = [  # recurrent layers have several products, which a file holds as bytes whatever their bits
                node.name
                for node in products
                if node.name in numbers and not any(matches(node.name, own) for own in layers or {})
            ]
            network.spent = spend(network, given, budget, free, weights, rounding is not None)
        if rounding is not None:
            learn_rounding(network, given, rounding)
        if bias_correction:
            layer_by_layer(network, given, correct_bias)
        if floor is not None:
            assert network.spent is not None
            score, float_score = check_floor(network, model, floor, network.spent)
            network.spent = network.spent._replace(score=score, float_score=float_score)
    return network


def _check_model(model: Any) -> None:
    if isinstance(model, QuantizedNetwork):
        raise TypeError("quantize: model is quantized already; give the float network that it was made of")
    if isinstance(model, Packed):
        integers = {kind.name for kind in INTEGER_KINDS}
        if any(node.kind in integers for node in model.program.nodes):
            raise ValueError("quantize: this packed model has integers already; give the float network")
        if model.sizes:
            raise ValueError("quantize: this packed model leaves sizes to each call; give one of them, model.at(...)")
    elif not callable(getattr(model, "forward", None)):
        raise TypeError(f"quantize: model must be a torch.nn.Module; got {type(model).__name__}")


def _facts_of_packed(model: Packed, keep: Sequence[str]) -> Facts:
    return _facts_of(model.program, {name: tensor.cpu() for name, tensor in model.tensors.items()}, keep)


def _facts_of(program: Program, tensors: Mapping[str, Tensor], keep: Sequence[str]) -> Facts:
    """With layers, attention and moves as nodes that have integers, and maps along channels in the layers."""

    def kept(name: str) -> str | None:
        return next((f"keep={pattern!r}" for pattern in keep if matches(name, pattern)), None)

    program, reasons = with_recurrent(with_layers(program), tensors, kept)
    program = with_products(with_plain_moves(program, tensors), tensors)
    program, tensors = folded(program, tensors)
    return Facts(program, tensors, forms_of(program, tensors), reasons=reasons)


def _facts(model: nn.Module, example: Any, keep: Sequence[str]) -> Facts:
    """The model as a program of real nodes. Raises: PackError."""
    try:
        check_seen(model)
        given = read_example(model, example)
        program, tensors, _ = read(model, given, read_dynamic(given, None))
        return _facts_of(program, tensors, keep)
    except (PackError, FormatError) as error:
        raise PackError(f"quantize: {str(error).removeprefix('pack: ')}") from error


def _check_some(units: Sequence[Unit]) -> None:
    """Raises: ValueError where all of a network stays float."""
    if not any(unit.reason is None and unit.rule.leads for unit in units):
        reasons = list(dict.fromkeys(f"{unit.node.name!r}: {unit.reason}" for unit in units if unit.reason))
        raise ValueError(f"quantize: no layer of this model has integers; {'; '.join(reasons[:8]) or 'it has none'}")


def _bits(products: Sequence[Node], others: Bits, layers: Mapping[str, Bits]) -> dict[str, Bits]:
    """Of each product, by its name. Raises: ValueError for a pattern that fits none."""
    names = [node.name for node in products]
    check_patterns("layers", layers, names)
    return {name: next((own for pattern, own in layers.items() if matches(name, pattern)), others) for name in names}


def _names(facts: Facts) -> Mapping[int, str]:
    """What to call each value."""
    names = {value: given.name for value, given in enumerate(facts.program.inputs)}
    return names | {node.output: node.name for node in facts.program.nodes}
