# SPDX-License-Identifier: Apache-2.0
"""Compile a C file of `deploy.to_c` and run it, with everything that its hooks show."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from bittern.deploy import Packed, to_c

STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wundef", "-Werror", "-O2")

HARNESS = """\
#include <stdint.h>
#include <stdio.h>

static int32_t accumulators[1 << 16];
static int32_t accumulated = 0;

static void record(int32_t kind, int32_t node, const void *data, int32_t count)
{
    const int32_t head[3] = {kind, node, count};
    fwrite(head, sizeof head, 1, stdout);
    fwrite(data, 4, (size_t)count, stdout);
}

void keep(int32_t index, int32_t accumulator);

void keep(int32_t index, int32_t accumulator)
{
    accumulators[index] = accumulator;
    accumulated = index >= accumulated ? index + 1 : accumulated;
}

void result(int32_t kind, int32_t node, const void *data, int32_t count);

void result(int32_t kind, int32_t node, const void *data, int32_t count)
{
    if (accumulated > 0) {
        record(0, node, accumulators, accumulated);
        accumulated = 0;
    }
    record(kind, node, data, count);
}

#define BITTERN_TRACE_ACCUMULATOR(index, accumulator) keep(index, accumulator)
#define BITTERN_TRACE_REALS(node, reals, count) result(1, node, reals, count)
#define BITTERN_TRACE_BITS(node, bits, count) result(2, node, bits, count)
#include "net.c"

static float input[NET_INPUT_SIZE];
static float output[NET_OUTPUT_SIZE];

int main(void)
{
    while (fread(input, sizeof input, 1, stdin) == 1) {
        net_run(input, output);
        record(3, 0, output, NET_OUTPUT_SIZE);
    }
    return 0;
}
"""


@dataclass
class Trace:
    """What one sample gave, by node: numbers as they lie in the memory of the C code."""

    accumulators: dict[int, NDArray[np.int32]] = field(default_factory=dict)
    reals: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    bits: dict[int, NDArray[np.uint32]] = field(default_factory=dict)
    output: Tensor = field(default_factory=lambda: torch.empty(0))


def compiler(program: str = "cc") -> str:
    """The path of a compiler, or skip."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs the C compiler {program!r}")
    return found


def build(packed: Packed, folder: Path, flags: Sequence[str] = STRICT, program: str = "cc") -> Path:
    """Write net.c into `folder` and compile it with the harness. Returns the program."""
    to_c(packed, folder / "net.c")
    (folder / "main.c").write_text(HARNESS)
    command = [compiler(program), *flags, "main.c", "-o", "main", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "main"


def run(program: Path, batch: Tensor, emulator: Sequence[str] = (), order: str = "<") -> list[Trace]:
    """One trace a sample. emulator: command that runs the program; order: of its bytes, "<" or ">"."""
    data = batch.numpy().astype(f"{order}f4").tobytes()
    done = subprocess.run([*emulator, program], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr
    words = np.frombuffer(done.stdout, f"{order}u4")
    return parse(words.astype("<u4").tobytes())


def parse(data: bytes) -> list[Trace]:
    traces, trace, at = [], Trace(), 0
    while at < len(data):
        kind, node, count = np.frombuffer(data, np.int32, 3, at)
        at += 12
        if kind == 0:
            trace.accumulators[int(node)] = np.frombuffer(data, np.int32, count, at)
        elif kind == 1:
            trace.reals[int(node)] = np.frombuffer(data, np.float32, count, at)
        elif kind == 2:
            trace.bits[int(node)] = np.frombuffer(data, np.uint32, count, at)
        else:
            trace.output = torch.tensor(np.frombuffer(data, np.float32, count, at))
            traces.append(trace)
            trace = Trace()
        at += 4 * int(count)
    return traces
