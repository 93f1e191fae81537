# SPDX-License-Identifier: Apache-2.0
"""The project's docstrings, which are plain text with `code` in single backticks, as reStructuredText."""

from __future__ import annotations

import re

ITEM = re.compile(r"((?:[\w.*]+|`[^`]+`)(?:(?:, | / | and )(?:[\w.*]+|`[^`]+`))*): (?=\S)")
"""Starts a line that explains an argument, or names errors, a formula or a source: `epochs: passes over ...`."""


def to_restructured_text(app: object, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Sphinx's hook: rewrites the lines of one docstring in place."""
    blocks = _blocks(lines)
    sentence = [] if not blocks else [*(_escaped(line.strip()) for line in blocks[0]), ""]
    lines[:] = sentence + [line for block in blocks[1:] for line in (*_rewritten(block), "")]


def _blocks(lines: list[str]) -> list[list[str]]:
    """Paragraphs: runs of lines without an empty one."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line.rstrip())
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _rewritten(block: list[str]) -> list[str]:
    """A paragraph whose first line starts an item is a list of items; drawn or indented text is kept as it stands."""
    if block[0].startswith((" ", ">>>")):
        return ["::", "", *(f"    {line}" for line in block)]
    if not ITEM.match(block[0]):
        return [_escaped(line.strip()) for line in block]
    out: list[str] = []
    for line in block:
        if found := ITEM.match(line):
            out += [f"**{_escaped(found[1])}**", f"    {_escaped(line[found.end() :])}"]
        else:
            out.append(f"    {_escaped(line.strip())}")
    return out


def _escaped(text: str) -> str:
    """Marks of reStructuredText that mean nothing here, escaped outside of code; code in double backticks."""
    parts = re.split(r"(`+[^`]+`+)", text)
    return "".join(f"``{p.strip('`')}``" if p.startswith("`") else re.sub(r"([*_|\\`])", r"\\\1", p) for p in parts)
