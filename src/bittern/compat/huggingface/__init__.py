# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in low bits as they lie on the Hugging Face hub: GPTQ, AWQ and compressed-tensors, into frozen layers.

`load_quantized(model, folder)` reads a folder that is on this machine; nothing is downloaded, and nothing in it is run.
Left out: pickles (.bin, .pt), weights of fewer or more than 2, 3, 4 or 8 bits, layouts for one kernel alone (Marlin,
AWQ's gemv_fast), and settings that differ from layer to layer. Each is refused by name.
"""

from __future__ import annotations

from bittern.compat.huggingface.load import load_quantized

__all__ = ["load_quantized"]
