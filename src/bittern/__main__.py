# SPDX-License-Identifier: Apache-2.0
"""`python -m bittern`: which implementation each op would use here, and why.

For bug reports and for the question "why is it slow?". `--json` prints the same as data.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from bittern import _native, ops
from bittern.bench.core.machine import Machine, this_machine


@dataclass(frozen=True, slots=True)
class IsaState:
    """One instruction set of the native kernels."""

    isa: str
    available: bool
    why: str


@dataclass(frozen=True, slots=True)
class OpState:
    """Which implementation one op uses for tensors of each device; None: calling it there is an error."""

    op: str
    cpu: str | None
    cpu_why: str
    cuda: str | None
    cuda_why: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What runs here, and why; `print(diagnosis)` shows it."""

    machine: Machine
    missing_features: tuple[str, ...]
    """CPU features that some kernel for this kind of CPU needs and this one, or its operating system, lacks."""
    pool: str
    """Where the native kernels' threads come from: "openmp" (torch's own) or "native"."""
    isas: tuple[IsaState, ...]
    ops: tuple[OpState, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def __str__(self) -> str:
        m = self.machine
        pool = "torch's OpenMP threads" if self.pool == "openmp" else "threads of their own"
        lines = [
            f"bittern {m.bittern}, torch {m.torch}, Python {m.python}, {m.system}",
            f"CPU       {m.cpu}, {m.cores} logical cores",
            f"features  {' '.join(m.features) or 'none'}",
            f"lacks     {' '.join(self.missing_features) or 'none'}",
            f"threads   {m.threads} (torch.set_num_threads changes it); native kernels run on {pool}",
            "",
            "instruction sets of the native kernels",
            *(f"  {s.isa:8} {'yes' if s.available else 'no ':3}  {s.why}" for s in self.isas),
            "",
            "ops",
        ]
        for state in self.ops:
            lines.append(f"  {state.op:20} CPU   {state.cpu or 'none':15} {state.cpu_why}")
            lines.append(f"  {'':20} CUDA  {state.cuda or 'none':15} {state.cuda_why}")
        return "\n".join(lines)


def diagnose() -> Diagnosis:
    """Look at this process.

    Raises: RuntimeError when BITTERN_ISA names an instruction set that does not exist or cannot run here.
    """
    features = _native.cpu_features()
    chosen, why = ops.chosen_isa(), _why_chosen()
    cuda, cuda_why = _cuda()
    needed = {name for isa in ops.Isa if _made_for_this_cpu(isa) for name in isa.needs}
    return Diagnosis(
        machine=this_machine(),
        missing_features=tuple(n for n, present in features.items() if not present and n in needed),
        pool=_native.pool_name(),
        isas=tuple(_isa_state(isa, features) for isa in ops.Isa),
        ops=tuple(OpState(op.name, f"native[{chosen.label}]", why, cuda, cuda_why) for op in ops.ALL),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the diagnosis. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bittern", description="Print which implementation each op would use here, and why."
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args(arguments).json
    try:
        found = diagnose()
    except KeyboardInterrupt:
        print("bittern: interrupted", file=sys.stderr)
        return 130
    except RuntimeError as error:
        print(f"bittern: {error}{_why_impossible()}", file=sys.stderr)
        return 1
    try:
        print(found.to_json() if as_json else found, flush=True)
    except BrokenPipeError:
        # the reader (head, a pager) has seen enough; nothing may be left to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _why_chosen() -> str:
    if os.environ.get("BITTERN_ISA"):
        return f"forced by BITTERN_ISA={os.environ['BITTERN_ISA']}"
    widest = "the widest instruction set that this build and this CPU have"
    skipped = [isa.label for isa in ops.available_isas() if isa in ops.ON_REQUEST]
    return f"{widest}, {', '.join(skipped)} left out" if skipped else widest


def _why_impossible() -> str:
    """Why BITTERN_ISA cannot be had, where it names an instruction set at all."""
    forced = os.environ.get("BITTERN_ISA", "").lower()
    for isa in ops.Isa:
        if isa.label == forced:
            return f" ({forced}: {_isa_state(isa, _native.cpu_features()).why})"
    return ""


def _made_for_this_cpu(isa: ops.Isa) -> bool:
    """False for the instruction sets of another kind of processor."""
    processor = "arm" if platform.machine().lower() in {"aarch64", "arm64"} else "x86"
    return isa.processor in {"any", processor}


def _isa_state(isa: ops.Isa, features: dict[str, bool]) -> IsaState:
    if isa in ops.available_isas():
        asked = "; used only where BITTERN_ISA asks for it" if isa in ops.ON_REQUEST else ""
        return IsaState(isa.label, True, f"in this build, and this CPU can run it{asked}")
    if not _made_for_this_cpu(isa):
        return IsaState(isa.label, False, f"made for {'ARM' if isa.processor == 'arm' else 'x86'} processors")
    lacking = [name for name in isa.needs if not features.get(name, False)]
    if lacking:
        return IsaState(isa.label, False, f"this CPU lacks {', '.join(lacking)}")
    return IsaState(isa.label, False, "not compiled into this build")


def _cuda() -> tuple[str | None, str]:
    """(implementation for CUDA tensors or None, why)."""
    if torch.version.cuda is None:
        return None, "this torch was built without CUDA"
    if not torch.cuda.is_available():
        return None, "torch sees no CUDA device"
    if importlib.util.find_spec("triton") is None:
        return None, "Triton is missing; pip install 'bittern[gpu]'"
    return "triton", f"the only implementation for CUDA tensors ({torch.cuda.get_device_name()})"


if __name__ == "__main__":
    sys.exit(main())
