"""Runs the light cases through Triton's interpreter and prints one JSON object: case -> "" or what went wrong.

A program of its own because TRITON_INTERPRET changes every Triton kernel that the process imports.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

os.environ["TRITON_INTERPRET"] = "1"

import torch

from _cases import Case, pure_cases
from _epilogue_cases import matmul_arguments, traps
from _tolerance import assert_exact
from bittern import ops


def outcome(case: Case) -> str:
    arguments = case.make()
    try:
        assert_exact(case.op.triton(*arguments), case.op.reference(*arguments))
    except Exception:
        return traceback.format_exc()
    return ""


def main() -> None:
    torch.set_num_threads(1)
    cases = [case for case in pure_cases() if case.light and case.op.has_cuda]
    cases.append(Case(ops.binary_matmul, "epilogue-traps", lambda: matmul_arguments(*traps())))
    json.dump({str(case): outcome(case) for case in cases}, sys.stdout)


if __name__ == "__main__":
    main()
