# SPDX-License-Identifier: Apache-2.0
"""The C file means the same to every compiler: C++, 32 bits, big-endian, sanitizers, any optimization."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from _c_agreement import check_every_node
from _c_networks import hand_made, packed_case
from _c_program import STRICT, build, compiler, run
from _epilogue_cases import exact_multiply_add, traps
from _tolerance import assert_exact
from bittern.deploy import to_c

BUILDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "C++": ("c++", ("-x", "c++", "-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2")),
    "sanitizers": ("cc", ("-std=c99", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")),
    "GNU, all instructions": ("cc", ("-std=gnu11", "-O3", "-march=native")),
    "no optimization": ("cc", ("-std=c99", "-O0")),
    "popcount by the compiler": ("cc", (*STRICT, "-DBITTERN_POPCOUNT32(x)=__builtin_popcount(x)")),
    "32 bits": ("cc", (*STRICT, "-m32", "-msse2", "-mfpmath=sse")),
    "32 bits, x87": ("cc", (*STRICT, "-m32")),
}
"""Name -> (compiler, flags)."""


@pytest.mark.parametrize("name", ["everything", "residual", "chain BNN", "DoReFa 2 2"])
@pytest.mark.parametrize("flags", BUILDS)
def test_every_build(flags: str, name: str, tmp_path: Path) -> None:
    program, options = for_this_machine(tmp_path, *BUILDS[flags])
    packed, batch = packed_case(name, 2)
    assert check_every_node(packed, batch, build(packed, tmp_path, options, program)) > 0


def compiles(folder: Path, flags: tuple[str, ...]) -> bool:
    (folder / "empty.c").write_text("#include <math.h>\nint main(void) { return 0; }\n")
    command = [compiler(), *flags, "empty.c", "-o", "empty"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def for_this_machine(folder: Path, program: str, options: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The compiler and flags of a build; 32 bits by this machine's compiler or a cross compiler; else skips."""
    if "-m32" not in options or compiles(folder, options):
        return program, options
    if shutil.which(THIRTY_TWO_BITS) is None:
        pytest.skip("needs a C compiler for 32 bits (Debian: gcc-multilib or gcc-i686-linux-gnu)")
    return THIRTY_TWO_BITS, (*(option for option in options if option != "-m32"), "-static")


THIRTY_TWO_BITS = "i686-linux-gnu-gcc"
"""Unlike gcc-multilib, it stands beside other cross compilers; its programs are linked statically, for no libraries of
32 bits are there to be found."""


BIG_ENDIAN = ("s390x-linux-gnu-gcc", "s390x-linux-gnu-gcc-12")
"""Names that Debian gives to a cross compiler."""

EMULATOR = "qemu-s390x"


@pytest.mark.parametrize("name", ["everything", "residual", "chain BNN", "DoReFa 2 2"])
def test_a_big_endian_machine(name: str, tmp_path: Path) -> None:
    cross = next(filter(shutil.which, BIG_ENDIAN), None)
    if cross is None or shutil.which(EMULATOR) is None:
        pytest.skip(f"needs {BIG_ENDIAN[0]} and {EMULATOR} (Debian: gcc-s390x-linux-gnu qemu-user)")
    packed, batch = packed_case(name, 2)
    program = build(packed, tmp_path, (*STRICT, "-static"), cross)
    assert check_every_node(packed, batch, program, (EMULATOR,), ">") > 0


@pytest.mark.parametrize("flags", ["strict", "GNU, all instructions", "32 bits, x87"])
def test_the_multiply_add_rounds_once(flags: str, tmp_path: Path) -> None:
    program, options = for_this_machine(tmp_path, *(("cc", STRICT) if flags == "strict" else BUILDS[flags]))
    x, alpha, beta = traps(400)
    affine = torch.stack([alpha, beta])
    packed = hand_made("affine", {"affine": affine}, {}, (len(x),))
    (trace,) = run(build(packed, tmp_path, options, program), x.view(1, -1))
    assert_exact(trace.output, exact_multiply_add(x, alpha, beta))


def test_fast_math_is_refused_by_the_file(tmp_path: Path) -> None:
    to_c(packed_case("twice", 2)[0], tmp_path / "net.c")
    command = [compiler(), "-std=c99", "-ffast-math", "-c", "net.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "compile without -ffast-math" in done.stderr
