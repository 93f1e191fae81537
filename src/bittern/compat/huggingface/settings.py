# SPDX-License-Identifier: Apache-2.0
"""Which format a folder is in: config.json's quantization_config, and the file that the quantizer left beside it.

AutoGPTQ and GPTQModel leave quantize_config.json, AutoAWQ quant_config.json. What both files say must be the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bittern.compat.huggingface.awq import Awq
from bittern.compat.huggingface.compressed_tensors import of_config as of_compressed_tensors
from bittern.compat.huggingface.format import Format
from bittern.compat.huggingface.gptq import Gptq

MODEL = "config.json"
BESIDE = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
"""The quantizer's own file -> the quant_method of one that names none."""
METHODS: dict[str, Callable[[Mapping[str, Any]], Format]] = {
    "gptq": Gptq.of_config,
    "awq": Awq.of_config,
    "compressed-tensors": of_compressed_tensors,
}
"""quant_method -> format."""
_OLD_NAMES = {"w_bit": "bits", "q_group_size": "group_size"}
"""AutoAWQ's own names."""
_CHANGING = ("rotation", "activation", "adapter")
"""What GPTQModel's checkpoints may ask for beside a product with the weight: Hadamard transforms of inputs, inputs in
few bits, additions of low rank."""
_DECIDING = (
    *("quant_method", "bits", "group_size", "sym", "desc_act", "zero_point", "pack_dtype"),
    *("checkpoint_format", "version", "format"),
)
"""What must not differ between two files."""


def read_format(folder: Path) -> Format:
    """Raises: ValueError for a folder that says nothing or another format; OSError."""
    config: dict[str, Any] = {}
    for name in (MODEL, *BESIDE):
        found = _settings(folder / name, name == MODEL)
        for key in _DECIDING:
            if key in config and key in found and _lower(config[key]) != _lower(found[key]):
                raise ValueError(f"{key} is {config[key]!r} in one file, and {found[key]!r} in {name}; repair one")
        config |= found
        if found and name in BESIDE:
            config.setdefault("quant_method", BESIDE[name])
    if not config:
        raise ValueError(f"{MODEL} has no quantization_config, and there is no {' or '.join(BESIDE)}; it is in numbers")
    method = config.get("quant_method")
    if method == "mxfp4":
        raise ValueError(
            "quant_method must not be 'mxfp4': gpt-oss holds all experts of a layer in one tensor, which no nn.Linear "
            "has; give each expert's blocks and scales to nn.LinearMXFP4.from_blocks"
        )
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"quant_method must be {', '.join(METHODS)}; got {method!r}; it is not read")
    _check_plain(config)
    return METHODS[method](config)


def _lower(value: Any) -> Any:
    """AutoAWQ writes GEMM and gemm."""
    return value.lower() if isinstance(value, str) else value


def _check_plain(config: Mapping[str, Any]) -> None:
    """Raises: ValueError where layers compute more than a product, or differ in more than that some stay in numbers."""
    for key in _CHANGING:
        if config.get(key):
            raise ValueError(f"{key} must not be set: layers would compute more; got {config[key]!r}; it is not read")
    rules = config.get("dynamic") or {}
    if not isinstance(rules, dict) or not all(rule.startswith("-:") for rule in rules):
        raise ValueError(f"dynamic must only leave layers out ('-:...'); got {rules!r}; quantize all alike")


def _settings(path: Path, inside: bool) -> dict[str, Any]:
    """What a file says; nothing where there is none. inside: under "quantization_config"."""
    found = read_json(path)
    if inside:
        found = found.get("quantization_config") or {}
        if not isinstance(found, dict):
            raise ValueError(f"{path.name}: quantization_config must be a table; got {found!r}")
    return {_OLD_NAMES.get(key, key): value for key, value in found.items()}


def read_json(path: Path) -> dict[str, Any]:
    """The table in a file; empty where there is no file. Raises: ValueError, OSError."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is damaged: it is no JSON") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is damaged: it is no table")
    return found
