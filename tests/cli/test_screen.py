# SPDX-License-Identifier: Apache-2.0
"""What is printed, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bittern.cli import screen


def test_sentences_break_between_words_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "the repeated timings differed by [25%]"
    terminal = io.StringIO()
    monkeypatch.setattr(
        screen, "screen", lambda: Console(file=terminal, force_terminal=True, width=20, highlight=False)
    )
    screen.say(text)
    assert [line.rstrip() for line in terminal.getvalue().splitlines()] == ["the repeated timings", "differed by [25%]"]
    monkeypatch.undo()
    screen.say(text * 10)
    assert capsys.readouterr().out == f"{text * 10}\n"
