# SPDX-License-Identifier: Apache-2.0
"""`bittern export` through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import bittern
from _command import Command, Trained
from _edge import built_kernels
from bittern.cli.export import TARGETS


def test_c_file_is_that_of_the_function(command: Command, trained: Trained, tmp_path: Path) -> None:
    out = command.done("export", trained.packed, "--to", "c", tmp_path / "net.c")
    made = bittern.deploy.to_c(bittern.load(trained.packed), tmp_path / "again.c", "net")
    assert (tmp_path / "net.c").read_bytes() == made.path.read_bytes()
    assert f"{made.constant_bytes:,} bytes of constants, {made.arena_bytes:,} bytes of arena" in out


def test_the_end_of_the_name_says_what_to_write(
    command: Command, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.done("export", trained.packed, "--to", "c", tmp_path / "net.c")
    told = (tmp_path / "net.c").read_bytes()
    command.done("export", trained.packed, tmp_path / "net.c")
    assert (tmp_path / "net.c").read_bytes() == told
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "the package 'executorch' is missing" in command("export", trained.packed, tmp_path / "net.pte").error


def test_the_name_is_passed_on(command: Command, trained: Trained, tmp_path: Path) -> None:
    command.done("export", trained.packed, tmp_path / "2.c", "--to", "c", "--name", "digits")
    assert "void digits_run(" in (tmp_path / "2.c").read_text()


def test_mistakes_are_one_line(command: Command, trained: Trained, tmp_path: Path) -> None:
    c, edge = ["--to", "c"], ["--to", "executorch"]
    cases: list[tuple[int, str, list[object]]] = [
        (2, "unknown target 'rust'", [trained.packed, tmp_path / "net.c", "--to", "rust"]),
        (
            2,
            "unknown target 'executorhc': did you mean executorch?",
            [trained.packed, tmp_path / "m", "--to", "executorhc"],
        ),
        (2, "name it net.c, net.pte or net.onnx", [trained.packed, tmp_path / "net"]),
        (2, "--to executorch writes no .c file", [trained.packed, tmp_path / "net.c", *edge]),
        (2, "--to qonnx writes no .pte file", [trained.packed, tmp_path / "net.pte", "--to", "qonnx"]),
        (2, "--name means nothing for a program for onnx", [trained.packed, tmp_path / "m.onnx", "--name", "net"]),
        (2, "--to c writes no .pte file", [trained.packed, tmp_path / "net.pte", *c]),
        (2, "--data means nothing for a program for c", [trained.packed, tmp_path / "net.c", *c, "--data", "digits"]),
        (2, "--verify means nothing for a program for c", [trained.packed, tmp_path / "net.c", *c, "--no-verify"]),
        (
            2,
            "--name means nothing for a program for executorch",
            [trained.packed, tmp_path / "m", *edge, "--name", "net"],
        ),
        (2, "leave out one of them", [trained.packed, tmp_path / "m", *edge, "--no-verify", "--data", "digits"]),
        (1, "must end in .c", [trained.packed, tmp_path / "net", *c]),
        (1, "must be a C identifier", [trained.packed, tmp_path / "2.c", *c]),
        (1, "is not packed; pack it first", [trained.folder, tmp_path / "net.c", *c]),
        (1, "cannot write", [trained.packed, tmp_path / "no" / "net.c", *c]),
    ]
    for status, text, words in cases:
        outcome = command("export", *words)
        assert outcome.status == status, words
        assert text in outcome.error, words
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", TARGETS)
def test_what_every_target_refuses(to: str, command: Command, trained: Trained, tmp_path: Path) -> None:
    outcome = command("export", trained.packed, trained.packed, "--to", to)
    assert outcome.status == 2
    assert "is the packed file itself" in outcome.error
    outcome = command("export", tmp_path / "none", tmp_path / "m", "--to", to)
    assert outcome.status == 1
    assert "no file" in outcome.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.peers("executorch")
def test_executorch(command: Command, trained: Trained, tmp_path: Path) -> None:
    built_kernels()
    out = command.done("export", trained.packed, tmp_path / "m.pte", "--to", "executorch", "--data", "digits")
    assert f"{(tmp_path / 'm.pte').stat().st_size:,} bytes" in out
    assert "agrees: yes" in out
    assert "of 8 answers" in out


@pytest.mark.peers("onnxscript", "onnxruntime")
@pytest.mark.parametrize("to", [[], ["--to", "qonnx"]], ids=["onnx", "qonnx"])
def test_onnx(to: list[str], command: Command, trained: Trained, tmp_path: Path) -> None:
    import onnx

    out = command.done("export", trained.packed, tmp_path / "m.onnx", "--data", "digits", *to)
    assert f"{(tmp_path / 'm.onnx').stat().st_size:,} bytes" in out
    assert "agrees: yes" in out
    assert "of 8 answers" in out
    kinds = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert ("BipolarQuant" in kinds) == bool(to)


def test_without_executorch(
    command: Command, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = command("export", trained.packed, tmp_path / "m.pte", "--to", "executorch")
    assert outcome.status == 1
    assert outcome.error == "to_executorch: the package 'executorch' is missing; pip install 'bittern[edge]'"
    assert list(tmp_path.iterdir()) == []
