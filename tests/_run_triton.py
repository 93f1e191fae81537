# SPDX-License-Identifier: Apache-2.0
"""Runs cases through Triton's interpreter and prints one JSON object: case -> "" or what went wrong.

Argument: "light", the light cases of all ops, or "log", the steps of log_codes.

A program of its own because TRITON_INTERPRET changes every Triton kernel that the process imports.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial

os.environ["TRITON_INTERPRET"] = "1"

import torch

from _agreement import check
from _cases import Case, interpreted_cases
from _epilogue_cases import matmul_arguments, traps
from _log_cases import check_log_step, fewer_log_steps, fewer_random_square_steps
from _tolerance import assert_exact
from _triton_extras import Extra, check_log_norms, check_norms_of_shards, check_repeated_steps, extras
from bittern import ops


def outcome(work: Callable[[], None]) -> str:
    try:
        work()
    except Exception:
        return traceback.format_exc()
    return ""


def check_extra(extra: Extra) -> None:
    mine = extra.op.triton(*extra.arguments, **extra.options)
    theirs = extra.op.reference(*extra.arguments, **extra.options)
    for a, b in zip(mine, theirs, strict=True):
        assert_exact(a, b)


def light_work() -> dict[str, Callable[[], None]]:
    cases = [*interpreted_cases(), Case(ops.binary_matmul, "epilogue-traps", lambda: matmul_arguments(*traps()))]
    work: dict[str, Callable[[], None]] = {}
    work |= {str(case): partial(check, case, ops.Implementation("triton", "cpu", case.op.triton)) for case in cases}
    work |= {extra.label: partial(check_extra, extra) for extra in extras()}
    work["repeated steps"] = check_repeated_steps
    work["norms of shards"] = check_norms_of_shards
    return work


def log_work() -> dict[str, Callable[[], None]]:
    run = ops.optimizer_step.triton
    work: dict[str, Callable[[], None]] = {}
    steps = [*fewer_log_steps(), *fewer_random_square_steps()]
    work |= {str(step): lambda step=step: check_log_step(step.make(), run) for step in steps}
    return work | {"norms of log steps": check_log_norms}


def main(part: str) -> None:
    torch.set_num_threads(1)
    work = {"light": light_work, "log": log_work}[part]()
    json.dump({label: outcome(call) for label, call in work.items()}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
