# SPDX-License-Identifier: Apache-2.0
"""Compiles the C code of a network of integers, and asks it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from _c_program import STRICT, compiler
from bittern.deploy import Packed, to_c

TYPES = {"real": ("float", np.float32), "int8": ("int8_t", np.int8), "uint8": ("uint8_t", np.uint8)}

HARNESS = """\
#include <stdio.h>
#include "net.c"
static {0} input[NET_INPUT_SIZE];
static {1} output[NET_OUTPUT_SIZE];

int main(void)
{{
    while (fread(input, sizeof input, 1, stdin) == 1) {{
        net_run(input, output);
        fwrite(output, sizeof output, 1, stdout);
    }}
    return 0;
}}
"""


def answers(
    packed: Packed, folder: Path, x: Tensor, program: Sequence[str] = ("cc",), run: Sequence[str] = ()
) -> Tensor:
    """What the C code gives for each sample."""
    made = to_c(packed, folder / "net.c")
    (given, _), (answer, dtype) = TYPES[made.input_types[0]], TYPES[made.output_type]
    (folder / "main.c").write_text(HARNESS.format(given, answer))
    command = [compiler(program[0]), *program[1:], *STRICT, "main.c", "-o", "main", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*run, folder / "main"], input=x.numpy().tobytes(), capture_output=True, check=True)
    return torch.from_numpy(np.frombuffer(done.stdout, dtype).reshape(len(x), -1).copy())


def floats_in(path: Path) -> list[str]:
    """Words of C code outside comments that have to do with floats."""
    code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    return re.findall(r"\w*float\w*|double|math\.h", code.replace("floats", ""))
