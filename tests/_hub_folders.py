# SPDX-License-Identifier: Apache-2.0
"""Small checkpoints in the formats of the Hugging Face hub, packed number by number from what the formats say."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor


class Weight(NamedTuple):
    """Plain numbers of a layer [rows, columns]: W[o, i] = scale[o, g] * (code[o, i] - zero[o, g]), g = index[i]."""

    codes: Tensor
    scale: Tensor
    zero: Tensor
    index: Tensor
    bits: int

    def formula(self) -> Tensor:
        """Difference and product in float32."""
        g = self.index.long()
        return (self.codes.float() - self.zero.float()[:, g]) * self.scale.float()[:, g]


def random_weight(
    rows: int, columns: int, bits: int, group: int, *, low: int = 0, symmetric: bool = False, shuffled: bool = False
) -> Weight:
    """low: the least zero point. shuffled: groups of inputs that are no neighbours."""
    groups = -(-columns // group)
    zero = torch.full((rows, groups), 2 ** (bits - 1)) if symmetric else torch.randint(low, 2**bits, (rows, groups))
    index = torch.arange(columns, dtype=torch.int32) // group
    index = index[torch.randperm(columns)] if shuffled else index
    return Weight(torch.randint(2**bits, (rows, columns)), torch.randn(rows, groups).half(), zero, index, bits)


def words(codes: Iterable[int], bits: int, order: tuple[int, ...] | None = None) -> list[int]:
    """int32 words of codes one after another from the lowest bit. order: which of each so many comes next."""
    left = list(codes)
    if order:
        left = [left[start + k] for start in range(0, len(left), len(order)) for k in order]
    string = sum(code << bits * k for k, code in enumerate(left))
    found = [string >> 32 * w & 0xFFFFFFFF for w in range(-(-len(left) * bits // 32))]
    return [word - (1 << 32) if word >> 31 else word for word in found]


def packed(matrix: Tensor, bits: int, order: tuple[int, ...] | None = None) -> Tensor:
    """Each row in words."""
    return torch.tensor([words(row, bits, order) for row in matrix.tolist()], dtype=torch.int32)


def gptq(weight: Weight, version: str = "gptq") -> dict[str, Tensor]:
    less = int(version == "gptq")
    return {
        "qweight": packed(weight.codes, weight.bits).t().contiguous(),
        "qzeros": packed(weight.zero.t() - less, weight.bits),
        "scales": weight.scale.t().contiguous(),
        "g_idx": weight.index,
    }


def awq_gemm(weight: Weight) -> dict[str, Tensor]:
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    return {
        "qweight": packed(weight.codes.t(), 4, order),
        "qzeros": packed(weight.zero.t(), 4, order),
        "scales": weight.scale.t().contiguous(),
    }


def awq_gemv(weight: Weight, width: int) -> dict[str, Tensor]:
    """width: words of zero points in a row."""
    rows, groups = weight.scale.shape
    zeros, scales = torch.zeros(rows, 8 * width, dtype=torch.long), torch.zeros(rows, 8 * width).half()
    zeros[:, :groups], scales[:, :groups] = weight.zero, weight.scale
    return {"qweight": packed(weight.codes, 4), "qzeros": packed(zeros, 4), "scales": scales}


def pack_quantized(weight: Weight, ordered: bool = False) -> dict[str, Tensor]:
    found = {
        "weight_packed": packed(weight.codes, weight.bits),
        "weight_scale": weight.scale.bfloat16(),
        "weight_zero_point": packed(weight.zero.t(), weight.bits).t().contiguous(),
        "weight_shape": torch.tensor(weight.codes.shape, dtype=torch.int32),
    }
    return found | ({"weight_g_idx": weight.index} if ordered else {})


def write(folder: Path, config: dict[str, Any], *shards: dict[str, Tensor]) -> None:
    """config.json and one file, or several and their index."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "net", "quantization_config": config}))
    if len(shards) == 1:
        save_file(shards[0], folder / "model.safetensors")
        return
    placed = {}
    for i, shard in enumerate(shards):
        name = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / name)
        placed |= dict.fromkeys(shard, name)
    index = {"metadata": {"total_size": 1}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def of_layer(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for key, value in tensors.items()}
