# SPDX-License-Identifier: Apache-2.0
"""save_quantized and load_quantized: a model with frozen layers in one safetensors file, loaded into a fresh model.

The file holds the model's state_dict, each tensor once (`table` of a Linear4bit is `code` there), and as text in its
header which layers are frozen and how:

    {"format": "bittern quantized model", "version": "1",
     "layers": {name: {"kind": "Linear4bit", "in_features": 64, ..., "block_size": 64, "nested": false}},
     "shared": {name of a tensor: name of the one that it is}}

Nothing in it is code. A file is checked against the model before anything is built: kinds, sizes, types and names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from bittern._files import write_atomically
from bittern._tensor_file import pieces
from bittern.nn._fill import device_of, fill
from bittern.nn._frozen import FrozenLinear
from bittern.nn.linear_4bit import Linear4bit
from bittern.nn.linear_8bit import Linear8bit
from bittern.nn.linear_groups import LinearGroups
from bittern.nn.linear_mxfp4 import LinearMXFP4

FORMAT, VERSION = "bittern quantized model", "1"
_SETTINGS: dict[str, dict[str, type]] = {
    "Linear4bit": {"in_features": int, "out_features": int, "bias": bool, "block_size": int, "nested": bool},
    "Linear8bit": {"in_features": int, "out_features": int, "bias": bool, "threshold": float},
    "LinearGroups": {
        "in_features": int,
        "out_features": int,
        "bias": bool,
        "bits": int,
        "group": int,
        "scale": str,
        "zero": str,
        "activations": str,
        "ordered": bool,
    },
    "LinearMXFP4": {"in_features": int, "out_features": int, "bias": bool},
}
"""What a file says of a layer of each kind."""
_KINDS = (Linear4bit, Linear8bit, LinearGroups, LinearMXFP4)
_ADDED: dict[str, dict[str, Any]] = {"LinearGroups": {"ordered": False}}
"""What files of before do not say, and meant."""
_IN_FILES = {"Linear4bit": {"table": "code"}}
"""Tensors of a layer that files call otherwise."""


def save_quantized(model: nn.Module, path: str | PathLike[str]) -> None:
    """Write `model`, as `quantize` returns it, to `path`: codes as codes, all else in its own type; never half a file.

    Tensors that are one (tied parameters) are written once, and one after another: nothing is copied as a whole.
    Errors: ValueError where no layer is frozen or a tensor has no numbers (meta); TypeError for a state_dict with
    anything but tensors of safetensors' types; OSError with the path.
    """
    layers = {name: _settings(m) for name, m in model.named_modules() if isinstance(m, FrozenLinear)}
    if not layers:
        raise ValueError("save_quantized: no layer of the model is frozen; call quantize first, or use torch.save")
    tensors: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    first: dict[Any, str] = {}
    names = _names_in_file(layers)
    for own, value in model.state_dict().items():
        name = names.get(own, own)
        if not isinstance(value, Tensor):
            raise TypeError(f"save_quantized: state_dict must hold tensors; got {type(value).__name__} as {name!r}")
        if value.is_meta:
            raise ValueError(f"save_quantized: {name!r} is on the meta device and has no numbers; load it first")
        place = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() and place in first:
            shared[name] = first[place]
        else:
            first[place] = name
            tensors[name] = value
    header = {"format": FORMAT, "version": VERSION, "layers": json.dumps(layers), "shared": json.dumps(shared)}
    write_atomically(Path(path), pieces(tensors, header))


def load_quantized(model: nn.Module, path: str | PathLike[str]) -> nn.Module:
    """A copy of `model` with the frozen layers and all numbers of a file that `save_quantized` wrote.

    model: built as the saved one was before `quantize`, e.g. freshly initialised, or on the meta device, so that its
    weights never take memory; or quantized alike. Its parameters are not touched. Numbers keep the file's type and go
    to the device of the model's first parameter, to the CPU from meta. Tied parameters are tied again.
    Errors: ValueError for a file of another kind, damaged, or that does not fit the model (missing or unexpected names,
    other sizes), with the path; OSError where it cannot be read.
    """
    layers, shared, tensors = _read(Path(path), device_of(model))
    try:
        return _fill(model, layers, shared, tensors)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"load_quantized: {path}: {error}") from error


def _settings(layer: FrozenLinear) -> dict[str, Any]:
    kind = type(layer).__name__
    if type(layer) not in _KINDS:
        raise TypeError(f"save_quantized: frozen layers must be {', '.join(_SETTINGS)}; got {kind}")
    own = layer.settings() if isinstance(layer, LinearGroups) else vars(layer)
    sizes = {"in_features": layer.in_features, "out_features": layer.out_features}
    values = {name: cls({**own, **sizes}[name]) for name, cls in _SETTINGS[kind].items() if name != "bias"}
    return {"kind": kind, **values, "bias": layer.bias is not None}


def _read(path: Path, device: torch.device) -> tuple[dict[str, dict[str, Any]], dict[str, str], dict[str, Tensor]]:
    """Layers, shared names and tensors of a file. Errors: ValueError; OSError."""
    with path.open("rb"):
        pass  # the reader below says less of a file that is not there
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            header = file.metadata() or {}
            if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
                raise ValueError(
                    f"load_quantized: {path} must be a {FORMAT!r} of version {VERSION}; got format "
                    f"{header.get('format')!r}, version {header.get('version')!r}; write it by save_quantized"
                )
            layers, shared = _json(path, header, "layers"), _json(path, header, "shared")
            return layers, shared, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, RuntimeError, UnicodeDecodeError) as error:
        raise ValueError(f"load_quantized: {path} is damaged or no safetensors file: {error}") from error


def _json(path: Path, header: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        found = json.loads(header.get(key, ""))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"load_quantized: {path} is damaged: {key!r} in its header is no JSON") from error
    if not isinstance(found, dict):
        raise ValueError(f"load_quantized: {path} is damaged: {key!r} in its header is no table")
    return found


def _fill(model: nn.Module, layers: dict[str, Any], shared: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    state = {**tensors, **{name: _shared(name, other, tensors) for name, other in shared.items()}}
    frozen = {name: _skeleton(model, name, layers[name]) for name in layers}
    own = {name: own for own, name in _names_in_file(layers).items()}
    return fill(model, frozen, {own.get(name, name): value for name, value in state.items()})


def _names_in_file(layers: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Of the tensors that a file calls otherwise than the model."""
    return {
        f"{prefix}{own}": f"{prefix}{name}"
        for layer, settings in layers.items()
        for prefix in (f"{layer}." if layer else "",)
        for own, name in _IN_FILES.get(settings["kind"], {}).items()
    }


def _old(model: nn.Module, name: str) -> nn.Linear | Linear4bit | Linear8bit | LinearGroups | LinearMXFP4:
    try:
        old = model.get_submodule(name)
    except AttributeError as error:
        raise ValueError(f"the file freezes {name!r}, which the model does not have; build the saved model") from error
    if not isinstance(old, (nn.Linear, *_KINDS)):
        raise ValueError(f"the file freezes {name!r}, which must be an nn.Linear; the model has a {type(old).__name__}")
    return old


def _skeleton(model: nn.Module, name: str, settings: Any) -> FrozenLinear:
    """The frozen layer that a file speaks of, on the meta device. Errors: ValueError unless it fits the model's."""
    old = _old(model, name)
    kind = settings.get("kind") if isinstance(settings, dict) else None
    expected = _SETTINGS.get(kind) if isinstance(kind, str) else None
    if expected is not None:
        settings = {**_ADDED.get(str(kind), {}), **settings}
    if expected is None or set(settings) != {"kind", *expected}:
        raise ValueError(f"layer {name!r} must be one of {', '.join(_SETTINGS)} with its settings; got {settings!r}")
    wrong = [key for key, cls in expected.items() if type(settings[key]) is not cls]
    if wrong:
        raise ValueError(
            f"layer {name!r}: {wrong[0]} must be {expected[wrong[0]].__name__}; got {settings[wrong[0]]!r}"
        )
    sizes = (old.in_features, old.out_features, old.bias is not None)
    found = (settings["in_features"], settings["out_features"], settings["bias"])
    if sizes != found:
        raise ValueError(
            f"layer {name!r}: the file has (in_features, out_features, bias) = {found}; the model has {sizes}"
        )
    linear = nn.Linear(*found, device="meta")
    layer: FrozenLinear
    try:
        if kind == "Linear4bit":
            layer = Linear4bit.from_float(linear, block_size=settings["block_size"], nested=settings["nested"])
        elif kind == "Linear8bit":
            layer = Linear8bit.from_float(linear, threshold=settings["threshold"])
        elif kind == "LinearMXFP4":
            layer = LinearMXFP4.from_float(linear)
        else:
            layer = LinearGroups.of_settings(linear, settings)
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from error
    if layer.bias is not None and old.bias is not None:
        layer.bias.requires_grad_(old.bias.requires_grad)
    return layer.train(old.training)


def _shared(name: str, other: Any, tensors: Mapping[str, Tensor]) -> Tensor:
    if not isinstance(other, str) or other not in tensors or name in tensors:
        raise ValueError(f"{name!r} must be shared with another tensor of the file; got {other!r}")
    return tensors[other].clone()
