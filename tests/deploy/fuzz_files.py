# SPDX-License-Identifier: Apache-2.0
"""Load and run packed files that were drawn, damaged, and counted, one seed each.

    python tests/deploy/fuzz_files.py --count 200000 [--first SEED] [--batch 10000] [--native build/asan]

A file ends in FormatError or in finished calls that agree with the program run node by node. Files run in a child
process; one that dies with a signal names its seed, and the next child goes on behind it. What is printed at the end is
a line of JSON. `make fuzz-files` runs it with the native code under AddressSanitizer.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from _mutations import mutated
from _random_programs import draft, inputs_for
from bittern.deploy import FormatError
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.kinds.aten_call import OperatorError
from bittern.deploy.packed import Packed, from_bytes
from bittern.deploy.parameters import called
from bittern.deploy.structure import named

BATCHES = (0, 2, 3)
MEMORY_LIMIT = 64 * 2**20
"""Of one file and one sample, in bytes."""

SLACK_BYTES = 48 * 2**20
"""What torch and this program take beside a model."""

DAMAGES = 8
"""Files made of one program: to draw it takes as long as to try several."""

LARGE_EVERY = 25
"""One program in so many has megabytes; its files run once, alone."""

SLOWEST_S = 100.0
"""So many files take no longer, under a sanitizer on a busy machine either; a child that does says where, and dies."""

WATCHED_FILES = 20

FILES_PER_CHILD = 10_000
"""A child under AddressSanitizer starts as long as it tries a thousand files."""

WITH_EXTENSION = """
import importlib.util, runpy, sys
spec = importlib.util.spec_from_file_location("bittern._native", sys.argv[1])
sys.modules["bittern._native"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["bittern._native"])
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Puts another extension in the place of the installed one, before anything imports that."""


@dataclass
class Tally:
    """What became of the files."""

    files: int = 0
    ran: int = 0
    peak_bytes: int = 0
    """The most that resident memory grew over one file (0 where the system does not tell)."""
    slowest_s: float = 0.0
    failures: list[str] = field(default_factory=list)
    """(seed and error) of files that ended in anything else."""

    def add(self, other: Tally) -> None:
        self.files += other.files
        self.ran += other.ran
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.failures += other.failures


def is_large(seed: int) -> bool:
    return seed // DAMAGES % LARGE_EVERY == LARGE_EVERY - 1


def file_of(seed: int) -> bytes:
    return mutated(_whole(seed // DAMAGES, is_large(seed)), random.Random(-1 - seed))


@lru_cache(maxsize=1)
def _whole(program: int, large: bool) -> bytes:
    return draft(program, large).file()


def try_file(data: bytes, seed: int) -> bool:
    """Whether the file loads and runs. Raises whatever must not be raised."""
    try:
        packed = from_bytes(data, memory_limit=MEMORY_LIMIT)
        _run(packed, seed)
    except (FormatError, OperatorError):
        return False
    return True


def _run(packed: Packed, seed: int) -> None:
    """Call a model, at the sizes of its example and at others where a call chooses them."""
    sizes = {size.name: size.example for size in packed.sizes}
    _run_at(packed, packed.at(**sizes), seed)
    for more in (1, seed % 7) if sizes and not is_large(seed) else ():
        try:
            fixed = packed.at(**{name: size + more for name, size in sizes.items()})
        except ValueError:
            continue
        _run_at(packed, fixed, seed)


def _run_at(packed: Packed, fixed: Packed, seed: int) -> None:
    """fixed: the same model for the sizes of this call."""
    generator = torch.Generator().manual_seed(seed)
    if is_large(seed):
        args, kwargs = called(packed.program.parameters, inputs_for(fixed, 1, generator))
        packed(*args, **kwargs)
        return
    kinds = {node.kind for node in packed.program.nodes}
    # results of their own may have the samples anywhere
    rows = all(given.batch == 0 for given in packed.inputs) and "results" not in kinds
    for batch in (1, 1, BATCHES[seed % len(BATCHES)]):
        inputs = inputs_for(fixed, batch, generator)
        args, kwargs = called(packed.program.parameters, inputs)
        with torch.no_grad():
            expected = named(Interpreter(fixed.program, fixed.tensors, fixed.device)(*inputs))
        for name, answer in (named(packed(*args, **kwargs)) or {}).items():
            if rows and answer.shape[0] != batch:
                raise AssertionError(f"{batch} samples gave {list(answer.shape)}")
            _compare(answer, (expected or {})[name])


def _compare(answer: torch.Tensor, expected: torch.Tensor) -> None:
    if answer.shape != expected.shape or not torch.equal(answer.nan_to_num(), expected.nan_to_num()):
        raise AssertionError(f"not as node by node, {list(answer.shape)} and {list(expected.shape)}")


def run_seeds(first: int, count: int, tell: bool = False, sanitized: bool = False) -> Tally:
    """Try files one after another.

    tell: print each seed before it and each failure, for whoever finds this process dead, and die of a slow file.
    sanitized: memory is not looked at, for a sanitizer keeps what was freed.
    """
    tally = Tally()
    for seed in range(first, first + count):
        if tell:
            print(seed, flush=True)
            if (seed - first) % WATCHED_FILES == 0:
                faulthandler.dump_traceback_later(SLOWEST_S, exit=True)
        data = file_of(seed)
        before, started = 0 if sanitized else _forget_peak(), time.perf_counter()
        try:
            tally.ran += try_file(data, seed)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {str(error)[:300]} at {Path(where.filename).name}:{where.lineno}"
            tally.failures.append(f"seed {seed}: {text}")
            if tell:
                print(tally.failures[-1], flush=True)
        tally.slowest_s = max(tally.slowest_s, time.perf_counter() - started)
        peak = 0 if sanitized else _status("VmHWM") - before
        tally.peak_bytes = max(tally.peak_bytes, peak)
        if peak > MEMORY_LIMIT * (1 if is_large(seed) else 2 * BATCHES[-1]) + SLACK_BYTES:  # node by node takes as much
            tally.failures.append(f"seed {seed}: took {peak} bytes")
        tally.files += 1
    return tally


def _forget_peak() -> int:
    """Resident bytes now, from which on the peak is counted; Linux alone."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _status("VmHWM")
    return _status("VmRSS")


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def command_of(native: Path | None) -> tuple[list[str], dict[str, str]]:
    """How to start a child, and its environment: with the extension in the folder `native`, if it is given."""
    if native is None:
        return [sys.executable, __file__], dict(os.environ)
    (extension,) = native.glob("_native*.so")
    # the sanitizer looks for libstdc++ when it starts: without it, every exception of torch would end the process
    runtime = " ".join(_library(name) for name in ("libasan.so", "libstdc++.so"))
    options = {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0:detect_odr_violation=0"}
    return [sys.executable, "-c", WITH_EXTENSION, str(extension), __file__], {**os.environ, **options}


def _library(name: str) -> str:
    """Where the compiler has a shared library."""
    find = [os.environ.get("CXX", "g++"), f"-print-file-name={name}"]
    return subprocess.run(find, capture_output=True, text=True, check=True).stdout.strip()


def in_child(native: Path | None, first: int, count: int) -> tuple[Tally, int]:
    """(what became of the files, the seed to go on with)."""
    command, environment = command_of(native)
    command += ["--child", "--first", str(first), "--count", str(count), *["--sanitized"] * (native is not None)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode == 0:
        return Tally(**json.loads(done.stdout.splitlines()[-1])), first + count
    seed = max((int(line) for line in done.stdout.split() if line.isdigit()), default=first)
    before = [line for line in done.stdout.splitlines() if line.startswith("seed ")]
    died = f"seed {seed}: exit {done.returncode}: {_cause(done.stderr)}"
    return Tally(files=seed - first + 1, failures=[*before, died]), seed + 1


def _cause(error: str) -> str:
    """What a dead child wrote, in short: of a sanitizer's report its summary, of a file too slow where it was."""
    late = error.find("Timeout (")
    summary = " ".join(line for line in error.splitlines() if "ERROR" in line or "runtime error" in line or "#" in line)
    return error[late:][:600] if late >= 0 else summary[:600] or error[-300:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000, help="how many files")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first; to go on where a run ended")
    parser.add_argument("--batch", type=int, default=FILES_PER_CHILD, help="files per child process")
    parser.add_argument("--native", type=Path, help="folder of an extension built with BITTERN_SANITIZE=ON")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--sanitized", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        print(json.dumps(asdict(run_seeds(options.first, options.count, True, options.sanitized))), flush=True)
        return 0
    tally, seed, end, started = Tally(), options.first, options.first + options.count, time.monotonic()
    while seed < end:
        part, seed = in_child(options.native, seed, min(options.batch, end - seed))
        tally.add(part)
        for failure in part.failures:
            print(failure, flush=True)
        rate = tally.files / (time.monotonic() - started)
        peak = tally.peak_bytes / 2**20
        print(
            f"up to seed {seed}: {tally.files} files, {tally.ran} ran, {len(tally.failures)} failures, "
            f"{rate:.1f} files/s, peak {peak:.0f} MiB",
            flush=True,
        )
    print(json.dumps(asdict(tally)))
    return bool(tally.failures)


if __name__ == "__main__":
    sys.exit(main())
