# SPDX-License-Identifier: Apache-2.0
"""Train a small network, write it as one C file, compile that with the C compiler of this machine, and run it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import nn

import bittern
from bittern.binary import ReCU
from bittern.data import digits, normalize
from bittern.deploy import to_c
from bittern.nn import BinaryConv2d
from bittern.train import Recipe, train

MAIN = """
#include <stdio.h>
#include "digits.c"

int main(void)
{
    static float image[DIGITS_INPUT_SIZE], logits[DIGITS_OUTPUT_SIZE];
    while (fread(image, sizeof image, 1, stdin) == 1) {
        int best = 0, i;
        digits_run(image, logits);
        for (i = 1; i < DIGITS_OUTPUT_SIZE; ++i) {
            best = logits[i] > logits[best] ? i : best;
        }
        printf("%d\\n", best);
    }
    return 0;
}
"""


def network() -> nn.Module:
    """9 kB of flash, 2 kB of RAM."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Hardtanh()),
        *(BinaryConv2d(16, 32, 3, stride=2, padding=1, method=ReCU), nn.BatchNorm2d(32), nn.Hardtanh()),
        *(BinaryConv2d(32, 64, 3, stride=2, padding=1, method=ReCU), nn.BatchNorm2d(64), nn.Hardtanh()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


def main() -> None:
    torch.manual_seed(0)
    data, model = digits(), network()
    train(model, data, Recipe(epochs=8))
    images = normalize(data.test_images, data.mean, data.std)
    packed = bittern.pack(model, images[:1])
    expected = packed(images).argmax(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(to_c(packed, folder / "digits.c"))
        compiler = shutil.which("cc")
        if compiler is None:
            print("no C compiler 'cc' here to try it with")
            return
        (folder / "main.c").write_text(MAIN)
        subprocess.run([compiler, "-std=c99", "-O2", "main.c", "-o", "main", "-lm"], cwd=folder, check=True)
        out = subprocess.run([folder / "main"], input=images.numpy().tobytes(), capture_output=True, check=True).stdout
    found = torch.tensor([int(line) for line in out.split()])
    print(f"{int((found == data.test_labels).sum())} of {len(found)} test digits are right in C,")
    print(f"{int((found == expected).sum())} of {len(found)} answers are those of the packed model")


if __name__ == "__main__":
    main()
