# SPDX-License-Identifier: Apache-2.0
"""A short run of the fuzzer of files (`make fuzz-files` runs a long one, under sanitizers)."""

from __future__ import annotations

import os
import random
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_files import file_of, in_child, run_seeds, try_file

from _mutations import ODD, mutated
from _packed_files import program_file
from _random_programs import draft
from bittern.deploy import FormatError
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.packed import from_bytes

PARTS, FILES = 6, 250


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_files_are_refused_or_run(part: int) -> None:
    tally = run_seeds(part * FILES, FILES)
    assert tally.failures == []
    assert tally.files == FILES
    assert tally.ran > FILES // 8


def test_undamaged_ones_run() -> None:
    """Every kind of node is among them; behind the first ones, those alone that have a kind for the first time."""
    kinds: set[str] = set()
    levels: set[int] = set()
    for seed in range(3000):
        program = draft(seed)
        found = {node[0] for node in program.nodes}
        if seed >= 500 and found <= kinds:
            continue
        kinds |= found
        own = [node[3].get("weight_levels") for node in program.nodes]
        levels |= {number for number in own if isinstance(number, int)}  # or an expression, where sizes are open
        # operators of torch may refuse when they compute what they took on tensors without memory
        may_refuse = any(node[0] == "aten" for node in program.nodes)
        if program.nodes:
            assert try_file(program.file(), seed) or may_refuse, seed
    assert kinds == set(KINDS)
    assert levels == {3, 6}


def test_a_batch_norm_behind_a_permutation() -> None:
    """The engine's image with channels last, permuted, is a view of other strides than that of the single nodes."""
    numbers = struct.pack("<4f", 0.3, 1.7, 0.9, 2.1)
    affine = ["affine", "affine", [0], {}, ["affine"]]
    permute = ["permute", "permute", [1], {"order": [0, 3, 1, 2]}, []]
    norm = ["batch_norm", "norm", [2], {}, ["mean", "var", "weight"]]
    tensors = [(f"norm.{role}", "F32", (4,), numbers) for role in ("mean", "var", "weight")]
    tensors.append(("affine.affine", "F32", (2, 8), struct.pack("<16f", *range(1, 17))))
    assert all(try_file(program_file([affine, permute, norm], [8, 5, 4], tensors), seed) for seed in range(3))


def test_planes_of_tokens_side_by_side() -> None:
    """Rows with several planes that are joined run as native code whatever their rank."""
    encode = ["encode", "encode", [0], {"dims": 0, "code": "odd", "planes": 2, "channels": 9}, []]
    join = ["concatenate_bits", "join", [1, 1], {"channels": [9, 9]}, []]
    sizes = {"kernel": [], "stride": [], "padding": [], "dilation": [], "dims": 0, "groups": 1, "pad_value": 0}
    counts = {"channels": 18, "out_channels": 4, "input_planes": 2, "weight_planes": 1, "code": "odd"}
    layer = ["binary", "layer", [2], {**sizes, **counts, "epilogue": "none", "result": "real"}, ["weight"]]
    tensors = [("layer.weight", "U8", (1, 9), bytes(range(9)))]
    for shape in ([9], [5, 9], [2, 5, 9]):
        assert try_file(program_file([encode, join, layer], shape, tensors), 0)


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    assert file_of(3) == file_of(3)
    assert file_of(3) != file_of(4)
    mutated(draft(7).file(), random.Random(1869))  # changes a list that damage before it had put there
    assert ODD == (None, True, "", "sign", "acc", 0.5, 1e30, [], [1], [2, 2], [0, 0], {}, 10**30, [[1]], -0.0)


def test_it_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes, memory_limit: int) -> None:
        raise KeyError("weight")

    monkeypatch.setattr("fuzz_files.from_bytes", broken)
    assert run_seeds(0, 3).failures[2].startswith("seed 2: KeyError: 'weight'")
    with pytest.raises(FormatError):
        from_bytes(b"")


def test_a_file_that_takes_too_long_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(
        "import time, fuzz_files as f\n"
        "f.SLOWEST_S = 0.3\n"
        "f.file_of = lambda seed: time.sleep(60 * (seed == 7))\n"
        "f.try_file = lambda data, seed: 1 // (seed - 6)\n"
        "f.run_seeds(5, 10, tell=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    monkeypatch.setattr("fuzz_files.command_of", lambda native: ([sys.executable, str(child)], environment))
    tally, next_seed = in_child(None, 5, 10)
    assert (tally.files, next_seed) == (3, 8)
    before, slow = tally.failures
    assert before.startswith("seed 6: ZeroDivisionError")
    assert slow.startswith("seed 7: exit 1: Timeout (0:00:00.300000)!")
    assert "child.py" in slow
