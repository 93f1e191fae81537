# SPDX-License-Identifier: Apache-2.0
"""The command as a whole: help, versions, one line for every error, exit statuses, completion."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

import bittern_command
from _command import Command, run
from bittern import __version__
from bittern.cli import errors, main
from bittern.cli.commands import app

COMMANDS = (
    ("demo",),
    ("train",),
    ("eval",),
    ("pack",),
    ("run",),
    ("info",),
    ("methods",),
    ("bench",),
    ("bench", "ops"),
    ("bench", "methods"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: Command, words: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        out = command.done(*words, flag)
        assert "Usage: bittern " + " ".join(words) in out
    assert len(out.splitlines()) > 8


def test_no_command_shows_all_of_them(command: Command) -> None:
    out = command.done()
    for words in COMMANDS:
        assert f" {words[0]} " in out
    assert "ops" in command.done("bench")


def test_version(command: Command) -> None:
    assert command.done("--version") == f"bittern {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Missing option '--folder'"),
        (["train", "--folder", "x", "--epoch", "3"], "No such option: --epoch"),
        (["train", "--folder", "x", "--epochs", "many"], "--epochs"),
        (["run", "model"], "Missing argument"),
        (["methods", "reactnt"], "unknown method 'reactnt': did you mean ReActNet?"),
        (["train", "--folder", "x", "--method", "xnor-net"], "unknown method 'xnor-net': did you mean XNORNet?"),
        (["train", "--folder", "x", "--method", "zzz"], "unknown method 'zzz': known are BNN, XNORNet, "),
        (["train", "--folder", "x", "--model", "resnet20"], "unknown network 'resnet20': did you mean resnet20_cifar?"),
        (["train", "--folder", "x", "--optimizer", "adamv"], "unknown optimizer 'adamv': did you mean ada"),
        (["train", "--folder", "x", "--device", "tpu"], "--device must be cpu or cuda; got 'tpu'"),
        (["train", "--folder", "x", "--threads", "0"], "--threads must be at least 1; got 0"),
    ],
)
def test_misuse_is_one_line_and_status_2(
    command: Command, words: list[str], message: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("misuse") / "run"
    outcome = command(*(folder if word == "x" else word for word in words))
    assert outcome.status == 2
    assert message in outcome.error
    assert outcome.out == ""
    assert not folder.exists()


def test_failure_is_one_line_and_status_1(command: Command) -> None:
    outcome = command("info", "no-such-file")
    assert outcome.status == 1
    assert "no-such-file" in outcome.error


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(command: Command, place: str) -> None:
    words = ["info", "no-such-file"]
    outcome = command(*(["--debug", *words] if place == "before" else [*words, "--debug"]))
    assert outcome.status == 1
    assert outcome.err.startswith("Traceback (most recent call last)")
    assert outcome.err.splitlines()[-1].startswith("bittern: ")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("a\n  b"), 1, "bittern: a b"),
        (OSError(28, "cannot write x: No space left"), 1, "bittern: cannot write x: No space left"),
        (
            FileNotFoundError(2, "No such file or directory", "x"),
            1,
            "bittern: x: No such file or directory; check this path",
        ),
        (FileNotFoundError("no file x"), 1, "bittern: no file x"),
        (ArithmeticError("the loss is nan"), 1, "bittern: the loss is nan"),
        (KeyError("x"), 1, "bittern: internal error: KeyError('x'); --debug shows where; please report it"),
        (AssertionError(), 1, "bittern: internal error: AssertionError(); --debug shows where; please report it"),
        (errors.Misused("what?"), 2, "bittern: what?"),
        (errors.Interrupted("stopped"), 130, "bittern: stopped"),
    ],
)
def test_errors_in_words(capsys: pytest.CaptureFixture[str], error: Exception, status: int, line: str) -> None:
    assert errors.report(error, False, error) == status
    assert capsys.readouterr().err == f"{line}\n"


def test_interrupt_anywhere_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*args: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bittern.cli.targets.load_packed", interrupted)
    assert main(["info", "x"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "bittern: interrupted"


@pytest.mark.parametrize("delay_s", [0.5, 0.9])
def test_interrupt_during_import_is_one_line(delay_s: float) -> None:
    """torch takes more than a second to import; whenever Ctrl-C comes, there is no traceback."""
    program = "import sys, time; sys.stderr.write('begun\\n'); from bittern_command import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "info", "none"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert child.stderr.readline() == "begun\n"
        time.sleep(delay_s)
        child.send_signal(signal.SIGINT)
        lines = child.stderr.read().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("bittern: ")
    assert child.returncode in (130, 1)  # interrupted, or already through


def test_program_is_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["bittern", "--version"])
    before = signal.getsignal(signal.SIGINT)
    assert bittern_command.main() == 0
    assert capsys.readouterr().out == f"bittern {__version__}\n"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("words", [["methods"], ["methods", "BNN"]], ids=["table", "text"])
def test_a_reader_that_has_seen_enough_gets_no_message(words: list[str]) -> None:
    program = f"import sys; from bittern.cli import main; sys.stdin.readline(); sys.exit(main({words}))"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as child:  # type: ignore[call-overload]
        child.stdout.close()
        _, err = child.communicate(b"go on\n", timeout=120)
    assert (child.returncode, err) == (1, b"")


def test_real_process_has_the_status_and_no_traceback() -> None:
    outcome = run("info", "no-such-file")
    assert outcome.status == 1
    assert "no-such-file" in outcome.error


def test_shell_completion_knows_names() -> None:
    outcome = run(_BITTERN_COMPLETE="complete_bash", COMP_WORDS="bittern train --method Re", COMP_CWORD="3")
    assert sorted(outcome.out.split()) == ["ReActNet", "ReBNN", "ReCU", "ReSTE", "RealToBinary"]


def test_import_loads_nothing_heavy_beyond_the_package() -> None:
    """What `bittern` itself loads is measured elsewhere; the command line adds next to nothing."""
    program = (
        "import sys, bittern; before = set(sys.modules); import bittern.cli; "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"matplotlib", "sklearn", "lightning_fabric", "torchmetrics", "tensorboard", "PIL", "scipy", "pandas"}
    assert not heavy & set(child.stdout.split())


def test_app_is_a_typer() -> None:
    assert {command.name or command.callback.__name__ for command in app.registered_commands if command.callback} == {
        "advise",
        "demo",
        "train",
        "eval",
        "pack",
        "quantize",
        "run",
        "export",
        "info",
        "methods",
        "pretrained",
    }
