# SPDX-License-Identifier: Apache-2.0
"""Take a published architecture, count what it costs, pack it and time it against its float twin."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

import bittern
from bittern.binary import ReActNet
from bittern.models import resnet20_cifar


def latency_us(function: object, x: Tensor, runs: int = 20) -> float:
    """Median time of one call."""
    times = []
    with torch.inference_mode():
        for _ in range(runs):
            start = time.perf_counter()
            function(x)  # type: ignore[operator]
            times.append(1e6 * (time.perf_counter() - start))
    return sorted(times)[runs // 2]


def main() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 32)
    model, twin = resnet20_cifar(method=ReActNet).eval(), resnet20_cifar(method=None).eval()
    print(bittern.summary(model, x))
    packed = bittern.pack(model, x)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet20.safetensors"
        packed.save(path)
        print(
            f"file: {path.stat().st_size} bytes; float weights: {sum(p.numel() for p in twin.parameters()) * 4} bytes"
        )
        assert torch.equal(bittern.load(path)(x), packed(x))
    print(f"packed {latency_us(packed, x):.0f} us, float {latency_us(twin, x):.0f} us")


if __name__ == "__main__":
    main()
