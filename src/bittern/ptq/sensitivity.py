# SPDX-License-Identifier: Apache-2.0
"""How much each layer suffers from few bits: what the network loses when that layer alone is quantized."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor


def signal_to_noise_db(wanted: Tensor, found: Tensor) -> float:
    """10 log10 (sum wanted^2 / sum (wanted - found)^2), in decibels; infinite where both are equal.

    Raises: ValueError for shapes that differ, no numbers, and NaN or infinity.
    """
    if wanted.shape != found.shape or wanted.numel() == 0:
        shapes = f"{list(wanted.shape)} and {list(found.shape)}"
        raise ValueError(f"signal_to_noise_db: both tensors must have one shape and numbers; got {shapes}")
    if not bool(wanted.isfinite().all() and found.isfinite().all()):
        raise ValueError("signal_to_noise_db: both tensors must be finite; they hold NaN or infinity")
    signal = float(wanted.detach().double().square().sum())
    noise = float((wanted.detach().double() - found.detach().double()).square().sum())
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal else -math.inf


def noise_to_signal(wanted: Tensor, found: Tensor) -> float:
    """sum (wanted - found)^2 / sum wanted^2: what adds up over layers while it is small, as `choose_bits` wants it.

    Raises: ValueError as `signal_to_noise_db`, and for a signal of zeros alone.
    """
    decibels = signal_to_noise_db(wanted, found)
    if decibels == -math.inf:
        raise ValueError("noise_to_signal: the wanted tensor must not be zeros alone; got zeros")
    return math.pow(10.0, -decibels / 10.0)


def sensitivities(
    layers: Iterable[str],
    widths: Iterable[int],
    damage: Callable[[Mapping[str, int]], float],
    *,
    progress: Callable[[str, int, float], None] | None = None,
) -> dict[str, dict[int, float]]:
    """layer -> bits -> damage({layer: bits}): of the network in which that layer alone has so many bits.

    damage: at least 0, such as `noise_to_signal` of the network's output, or the increase of its loss, where an
    increase below 0 counts as 0. progress: called with each number.
    Raises: ValueError where damage gives NaN or infinity.
    """
    found: dict[str, dict[int, float]] = {}
    widths = tuple(widths)
    for layer in layers:
        found[layer] = {}
        for bits in widths:
            number = damage({layer: bits})
            if not math.isfinite(number):
                raise ValueError(f"sensitivities: damage must be finite; got {number!r} of {layer!r} at {bits} bits")
            found[layer][bits] = max(number, 0.0)
            if progress is not None:
                progress(layer, bits, found[layer][bits])
    return found
