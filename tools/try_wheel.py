# SPDX-License-Identifier: Apache-2.0
"""Pack, save, load and run a small network with the bittern that is installed; tools/release.sh runs it."""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import bittern
from bittern.binary import ReActNet
from bittern.nn import BinaryConv2d


def main() -> None:
    torch.manual_seed(0)
    layers = BinaryConv2d(8, 16, 3, padding=1, method=ReActNet), nn.BatchNorm2d(16), nn.AdaptiveAvgPool2d(1)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 10)).eval()
    x = torch.randn(4, 8, 6, 6)
    packed = bittern.pack(model, x, classes=[str(i) for i in range(10)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed.safetensors"
        packed.save(path)
        if not torch.equal(bittern.load(path)(x), model(x)):
            sys.exit("try_wheel: the loaded network answers otherwise than the one that was packed")
        digits = bittern.load("digits")
        if len(digits.predict(torch.zeros(1, 8, 8))) != 1:
            sys.exit("try_wheel: the network of digits gives no answer")
        program = Path(sys.executable).with_name("bittern")
        subprocess.run([program, "info", path], check=True, stdout=subprocess.DEVNULL)
    where = Path(bittern.__file__).parent
    print(f"bittern {bittern.__version__} in {where}, Python {platform.python_version()}: packed, loaded, exact")


if __name__ == "__main__":
    main()
