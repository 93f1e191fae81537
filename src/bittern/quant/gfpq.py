# SPDX-License-Identifier: Apache-2.0
"""GFPQ: the 8-bit logarithmic numbers of HiSilicon's NNIE, as MQBench (2111.03759) and nnieqat have them."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from bittern._options import check_choice
from bittern.codes import Floats
from bittern.estimators import straight_through
from bittern.quant._real_inputs import check_share
from bittern.quantizer import REAL_BITS, InputCode, LayerShape, Quantized, Quantizer, RealCode

STEPS = 16
"""Levels of an octave."""
TOP = 127
"""The largest magnitude; 0 is a code of its own."""
Rule = Literal["round", "floor"]
"""How the exponent of a clip becomes whole: MQBench rounds, nnieqat floors."""


def gfpq_exponent(clip: Tensor, rule: Rule = "round") -> Tensor:
    """z = round(16 log2 clip) - 127 (ties to even), or with floor; float64. A clip of 0 counts as 1."""
    octaves = STEPS * torch.log2(torch.where(clip == 0, 1.0, clip.double()))
    return (torch.round(octaves) if rule == "round" else torch.floor(octaves)) - TOP


def gfpq(x: Tensor, clip: Tensor, rule: Rule = "round") -> Tensor:
    """The nearest numbers +-2^((k + z) / 16) or 0, by their logarithms; carries no gradient.

    x at least 2^(z/16 - 1): k = clip(round(16 log2 x) - z, 0, 127); below -2^((z+1)/16 - 1): clip(..., 1, 127); 0
    between. Ties of the logarithm go to even. Powers are computed in float64 and rounded once. NaN stays NaN.
    """
    real = x.detach().double()
    z = gfpq_exponent(clip.detach(), rule)
    octaves = torch.round(STEPS * torch.log2(real.abs())) - z
    up = torch.exp2((octaves.clamp(0, TOP) + z) / STEPS)
    down = -torch.exp2((octaves.clamp(1, TOP) + z) / STEPS)
    least, most = -torch.exp2((z + 1) / STEPS - 1), torch.exp2(z / STEPS - 1)
    near = torch.where(real < least, down, torch.where(real.isnan(), real, 0.0))
    return torch.where(real >= most, up, near).to(x.dtype)


class GFPQ(Quantizer):
    """Weights and inputs as a sign and a 7-bit logarithm, 16 levels an octave, with one clip each for a layer.

    Forward: c = max |W| of the layer, for inputs a mean of the largest |x| of batches; z = round(16 log2 c) - 127
    (z="round", MQBench) or floor(16 log2 c) - 127 ("floor", nnieqat). Numbers are 0 and +-2^((k + z) / 16), k = 0 ...
    127 (from 1 on if negative): neighbours differ by 4.4 %, the largest is 245 times the smallest. x at least
    2^(z/16 - 1) takes k = clip(round(16 log2 x) - z, 0, 127), x below -2^((z + 1)/16 - 1) likewise; others are 0.
    inputs=False leaves inputs real.
    Backward: rounding and clipping count as the identity.
    The clip of inputs, part of the state: the first batch's largest |x| in training mode, then decay * clip +
    (1 - decay) * largest; 1 until then.
    Start: as the network's real weights.

    `gfpq_table` collects the clips of a model, for the compiler of such a chip.
    Differences: MQBench leaves an x of exactly 2^(z/16 - 1) as it is, here it takes k = 0. The vendor's tables of clips
    are not public. How the two observe inputs was not read: the mean is this library's.
    Errors: ValueError in a layer of groups, which the chip does not have, for another `z`, a decay outside [0, 1).
    Packing: with real inputs as the float32 that the numbers stand for; rounded inputs are refused by name.
    Source: arXiv 2111.03759 (MQBench), whose text was not read; ModelTC/MQBench mqbench/fake_quantize/nnie.py, docs
    nnie.rst; aovoc/nnieqat-pytorch.
    """

    clip: Tensor
    started: Tensor

    def __init__(self, shape: LayerShape, *, inputs: bool = True, z: Rule = "round", decay: float = 0.9) -> None:
        super().__init__(shape)
        check_choice("GFPQ", "z", z, ("round", "floor"))
        check_choice("GFPQ", "inputs", inputs, (True, False))
        check_share("GFPQ", "decay", decay)
        if shape.groups != 1:
            raise ValueError(
                f"GFPQ: NNIE has no convolution with groups; got groups={shape.groups}; keep this layer as it is"
            )
        self.inputs, self.z, self.decay = inputs, z, decay
        self.input_bits = 8 if inputs else REAL_BITS
        self.register_buffer("clip", torch.ones(()))
        """c of inputs."""
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(straight_through(gfpq(w, largest(w), self.z), w))

    def weight_code(self) -> Floats:
        return Floats(8, "GFPQ's logarithmic numbers")

    def input(self, x: Tensor) -> Quantized:
        if not self.inputs:
            return Quantized(x)
        if self.training and x.numel():
            with torch.no_grad():
                seen = largest(x).to(self.clip.dtype)
                self.clip.copy_(torch.where(self.started, self.decay * self.clip + (1 - self.decay) * seen, seen))
                self.started.fill_(True)
        return Quantized(straight_through(gfpq(x, self.clip, self.z), x))

    def input_code(self) -> InputCode:
        return RealCode(rounded="GFPQ's logarithmic numbers") if self.inputs else RealCode()


def largest(x: Tensor) -> Tensor:
    """max |x|, 0 of nothing."""
    return x.detach().abs().amax() if x.numel() else x.new_zeros(())


def gfpq_table(model: nn.Module) -> dict[str, dict[str, float | int | str]]:
    """The clips and exponents of every layer of a model whose method is `GFPQ`, by name.

    Each clip is 2^((z + 127) / 16), so that 16 log2 of it is whole, as the vendor's compiler asks, and either rule
    gives the same z. "input" is missing where inputs stay real.
    Raises: ValueError for a model without such layers, clips that are not finite, inputs that were never seen.
    """
    table: dict[str, dict[str, float | int | str]] = {}
    for name, module in model.named_modules():
        method, weight = getattr(module, "method", None), getattr(module, "weight", None)
        if not isinstance(method, GFPQ) or not isinstance(weight, Tensor):
            continue
        if method.inputs and not bool(method.started):
            raise ValueError(f"gfpq_table: layer {name!r} has seen no input; run the model once in training mode")
        clips = {"weight": largest(weight)} | ({"input": method.clip} if method.inputs else {})
        table[name] = {}
        for what, clip in clips.items():
            z = float(gfpq_exponent(clip, method.z))
            if not math.isfinite(z):
                raise ValueError(f"gfpq_table: layer {name!r} has the clip {float(clip)} of its {what}; train it again")
            table[name] |= {f"{what}_clip": 2.0 ** ((z + TOP) / STEPS), f"{what}_exponent": int(z)}
    if not table:
        raise ValueError("gfpq_table: the model has no layer of GFPQ; convert it first, bittern.convert(model, GFPQ)")
    return table


def write_gfpq_table(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Writes `gfpq_table` as JSON: {"bits": 8, "layers": {name: {"weight_clip": c, "weight_exponent": z, ...}}}."""
    from bittern._files import write_atomically

    text = json.dumps({"bits": 8, "layers": gfpq_table(model)}, indent=1)
    write_atomically(Path(path), (text + "\n").encode())
