# SPDX-License-Identifier: Apache-2.0
"""load_quantized: a folder of the Hugging Face hub in GPTQ, AWQ or compressed-tensors, into a model of one's own.

Order: the configuration, the index and the headers of the files are held against the model; only then are numbers
read, layer after layer, into a copy. So nothing is ever half loaded, and beside the result one layer takes memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from os import PathLike, scandir
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from bittern.compat.huggingface.format import SCALES, Format, Part, finest_group
from bittern.compat.huggingface.settings import read_format
from bittern.compat.huggingface.shards import Shards, open_shards
from bittern.nn._fill import check_fits, device_of, fill, ties_of
from bittern.nn.linear_groups import Activations, LinearGroups
from bittern.nn.linear_mxfp4 import LinearMXFP4
from bittern.nn.substitutes import has_hooks


def load_quantized(
    model: nn.Module,
    folder: str | PathLike[str],
    *,
    ignore: Sequence[str] = (),
    activations: Activations = "real",
) -> nn.Module:
    """A copy of `model` with the numbers of a folder, in which every layer that it has in codes is a LinearGroups, or a
    LinearMXFP4 where the codes are MXFP4's.

    model: of the class that the folder was saved from, e.g. transformers' AutoModelForCausalLM.from_config(config), or
        on the meta device, so that its weights never take memory. Its parameters are not touched.
    folder: config.json with a quantization_config, or the quantizer's own file, and .safetensors files.
    ignore: patterns of names in the files that the model needs not, e.g. ["*.rotary_emb.inv_freq"].
    activations: as in LinearGroups; MXFP4 has "real" alone.

    Weights are exactly those of the files, W = scale * (code - zero) in float32. Groups of 256 or more inputs become
    several of 128 with one scale; with act-order the inputs are sorted first (`LinearGroups.order`); zero points that
    are all 2^(bits - 1) are not stored. Numbers keep the file's type and go to the device of the model's first
    parameter, to the CPU from meta. Tied parameters are tied again. A bias of zeros that the model does not have is
    left out.
    Errors: ValueError, with the folder and the name, for a format that is not read, a damaged file, names or sizes that
    do not fit the model, a pattern that matches nothing; OSError where a file cannot be read.
    References: GPTQ (arXiv:2210.17323), AWQ (arXiv:2306.00978).
    """
    path = Path(folder)
    with scandir(path):
        pass  # an OSError that says why it cannot be read
    try:
        form = read_format(path)
        with open_shards(path, device_of(model)) as shards:
            return _load(model, form, shards, ignore, activations)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"load_quantized: {path}: {error}") from error


class _Layer(NamedTuple):
    """A layer of the model that the files have in codes."""

    linear: nn.Linear | LinearGroups | LinearMXFP4
    present: tuple[str, ...]
    """Which of its tensors the files have."""


def _load(model: nn.Module, form: Format, shards: Shards, ignore: Sequence[str], activations: Activations) -> nn.Module:
    headers = _not_ignored(shards.headers, ignore)
    marker = f".{form.marker}"
    names = sorted(name.removesuffix(marker) for name in headers if name.endswith(marker))
    if not names:
        raise ValueError(f"no tensor is named '...{marker}', so that no layer is in codes; load it as it is")
    layers = {name: _described(name, _linear(model, name), form, headers) for name in names}
    if len({id(layer.linear) for layer in layers.values()}) < len(layers):
        raise ValueError("two names in the files are one layer of the model; build the saved model")
    places = _plain(model, layers, headers)
    filled = {name: _filled(name, layer, form, shards, activations) for name, layer in layers.items()}
    numbers = {place: shards.read(place) for place in set(places.values())}
    state = {name: numbers[place] for name, place in places.items()}
    state |= {f"{name}.{own}": value for name, layer in filled.items() for own, value in layer.state_dict().items()}
    return fill(model, filled, state)


def _not_ignored(headers: Mapping[str, Tensor], ignore: Sequence[str]) -> dict[str, Tensor]:
    if isinstance(ignore, str):
        raise ValueError(f"ignore must be several patterns; got the text {ignore!r}; put it in a list")
    unused = [pattern for pattern in ignore if not any(fnmatchcase(name, pattern) for name in headers)]
    if unused:
        raise ValueError(f"ignore: {unused[0]!r} matches no tensor in the files; leave it out")
    return {name: h for name, h in headers.items() if not any(fnmatchcase(name, pattern) for pattern in ignore)}


def _linear(model: nn.Module, name: str) -> nn.Linear | LinearGroups | LinearMXFP4:
    try:
        old = model.get_submodule(name)
    except AttributeError as error:
        raise ValueError(f"the files have {name!r}, which the model does not have; build the saved model") from error
    if not (type(old) is nn.Linear or isinstance(old, LinearGroups | LinearMXFP4)):
        raise ValueError(
            f"the files have {name!r} in codes, which must be an nn.Linear; the model has a {type(old).__name__}"
        )
    if has_hooks(old):
        raise ValueError(f"layer {name!r}: {has_hooks(old)}")
    return old


def _described(
    name: str, linear: nn.Linear | LinearGroups | LinearMXFP4, form: Format, headers: Mapping[str, Tensor]
) -> _Layer:
    """Raises: ValueError where its tensors are missing, or of another size or type."""
    rows, columns = linear.out_features, linear.in_features
    try:
        parts = (*form.parts(rows, columns), Part("bias", SCALES, (rows,), needed=linear.bias is not None))
        finest_group(form.group, columns)
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from error
    present = []
    for part in parts:
        found = headers.get(f"{name}.{part.name}")
        if found is None and part.needed:
            raise ValueError(f"'{name}.{part.name}' is missing")
        if found is not None and (found.dtype not in part.dtypes or tuple(found.shape) != part.shape):
            types = " or ".join(str(dtype).removeprefix("torch.") for dtype in part.dtypes)
            raise ValueError(
                f"'{name}.{part.name}' must be {types} {list(part.shape)} for a layer of {columns} inputs and {rows} "
                f"outputs; got {str(found.dtype).removeprefix('torch.')} {list(found.shape)}"
            )
        present += [part.name] if found is not None else []
    return _Layer(linear, tuple(present))


def _plain(model: nn.Module, layers: Mapping[str, _Layer], headers: Mapping[str, Tensor]) -> dict[str, str]:
    """Name in the model -> name in the files, of everything that is in numbers. Raises: ValueError unless all fits."""
    own = {f"{name}.{part}" for name, layer in layers.items() for part in layer.present}
    places = {name: name for name in headers if name not in own}
    for tied in ties_of(model):  # files have one of the names
        there = [name for name in tied if name in places]
        missing = [name for name in tied if name not in places and name.rpartition(".")[0] not in layers]
        places |= dict.fromkeys(missing if there else (), next(iter(there), ""))
    expected = {name: t for name, t in model.state_dict().items() if name.rpartition(".")[0] not in layers}
    check_fits(expected, {name: headers[place] for name, place in places.items()})
    return places


def _filled(
    name: str, layer: _Layer, form: Format, shards: Shards, activations: Activations
) -> LinearGroups | LinearMXFP4:
    linear, tensors = layer.linear, {part: shards.read(f"{name}.{part}") for part in layer.present}
    try:
        bias = _bias(linear, tensors.get("bias"))
        made = form.layer(linear.out_features, linear.in_features, tensors, bias, activations)
    except (TypeError, ValueError) as error:
        raise ValueError(f"layer {name!r}: {error}") from error
    if made.bias is not None and linear.bias is not None:
        made.bias.requires_grad_(linear.bias.requires_grad)
    return made.train(linear.training)


def _bias(linear: nn.Linear | LinearGroups | LinearMXFP4, bias: Tensor | None) -> Tensor | None:
    """That of the file; zeros that the model does not have are left out."""
    if linear.bias is not None or bias is None:
        return bias
    if bool(bias.any()):
        raise ValueError("the file has a bias other than 0, and the model has none; build the saved model")
    return None
