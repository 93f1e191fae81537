# SPDX-License-Identifier: Apache-2.0
"""`--loss`: losses beside that of the task, as a user types them: "kurtosis:weight=0.5"."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bittern.cli import lists
from bittern.cli.errors import Misused, unknown

if TYPE_CHECKING:
    from bittern.train import AddedLoss

LOSS_HELP = (
    "A loss beside the task's, NAME:OPTION=VALUE,...; may be given again: kurtosis, near_signs, waves (of weights), or "
    "those that compare with --teacher at points=LAYER+LAYER@TEACHERS: logits, attention, directions, hidden. "
    "[default: none]"
)


def losses(texts: Sequence[str]) -> tuple[AddedLoss, ...]:
    """The losses of these texts. Raises: Misused."""
    found = tuple(map(_loss, texts))
    names = [loss.name for loss in found]
    for name in names:
        if names.count(name) > 1:
            raise Misused(f"--loss {name}: given {names.count(name)} times; tell them apart by name=...")
    return found


def compares(loss: AddedLoss) -> bool:
    """Whether a loss looks at a teacher."""
    return bool(loss.pairs)


def _loss(text: str) -> AddedLoss:
    name, colon, listed = text.partition(":")
    known = _known()
    if name not in known:
        raise unknown("loss", name, known)
    fields = {field.name: field for field in dataclasses.fields(known[name])}
    given = lists.pairs(text, listed, fields, "e.g. weight=0.5", ("points", "name")) if colon else {}
    for field in fields.values():
        if field.name not in given and field.default is dataclasses.MISSING:
            what = f"points={POINTS}" if field.name == "points" else f"{field.name}=..."
            raise Misused(f"--loss {text}: it needs {what}, as --loss {name}:{what}")
    if "points" in given:
        given["points"] = tuple(_point(text, part) for part in given["points"].split("+"))
    try:
        return known[name](**given)
    except (TypeError, ValueError) as error:
        raise Misused(f"--loss {text}: {error}") from error


POINTS = "blocks.0+blocks.1@layer2"
"""Modules with "+" between them, and the teacher's behind "@" where it is called otherwise."""


def _point(text: str, part: str) -> str | tuple[str, str]:
    mine, at, theirs = part.partition("@")
    if "@" in theirs:
        raise Misused(
            f"--loss {text}: a point is a layer, or the network's and the teacher's, as {POINTS}; got {part!r}"
        )
    return (mine, theirs) if at else mine


def _known() -> dict[str, type[AddedLoss]]:
    """By the names that logs give them."""
    from bittern import train

    found: dict[str, type[AddedLoss]] = {}
    for cls in train.ADDED_LOSSES:
        (name,) = (field.default for field in dataclasses.fields(cls) if field.name == "name")
        found[str(name)] = cls
    return found
