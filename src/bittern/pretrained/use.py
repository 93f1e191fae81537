# SPDX-License-Identifier: Apache-2.0
"""How a network is used: its classes, what makes an input of a raw example, and what its output says.

It lies in a packed file's `info` as texts of JSON:

    classes       ["T-shirt/top", ...], as `bittern.pack` writes it
    mean, std     of a classification of pictures too, so that `bittern run` reads them as of any file
    preparation   {"kind": "image", ...}: a kind of `bittern.pretrained.preparations`, and its settings
    answers       {"kind": "classes"}: a kind of `bittern.pretrained.answers`, and its settings
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from bittern.deploy.image_info import ImageInfo, read_image_info
from bittern.pretrained import answers, preparations
from bittern.pretrained.answers import Reader
from bittern.pretrained.fields import read_object, text
from bittern.pretrained.preparations import ImagePreparation, Preparation

PREPARATION, ANSWERS = "preparation", "answers"


class _Kind(Protocol):
    @property
    def kind(self) -> str: ...


Kind = TypeVar("Kind", Preparation, Reader)


@dataclass(frozen=True)
class Use:
    """Raises: ValueError without classes."""

    classes: tuple[str, ...]
    preparation: Preparation
    reader: Reader

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("use: needs the names of the classes; got none")

    def to_info(self) -> dict[str, str]:
        """Entries for `Packed.info`."""
        images = ImageInfo(self.classes)
        if isinstance(self.preparation, ImagePreparation):
            images = ImageInfo(self.classes, self.preparation.mean, self.preparation.std)
        return images.to_info() | {
            PREPARATION: _written(self.preparation, self.preparation.settings()),
            ANSWERS: _written(self.reader, self.reader.settings()),
        }


def read_use(info: Mapping[str, str]) -> Use:
    """The entries of a file. Raises: ValueError naming the one that is missing or damaged."""
    classes = read_image_info(info).classes
    if classes is None:
        raise ValueError("it does not name its classes")
    preparation = _read(PREPARATION, info, preparations.ALL)
    return Use(classes, preparation, _read(ANSWERS, info, answers.ALL))


def _written(of: _Kind, settings: Mapping[str, Any]) -> str:
    return json.dumps({"kind": of.kind, **settings}, ensure_ascii=False, allow_nan=False)


def _read(name: str, info: Mapping[str, str], kinds: Sequence[type[Kind]]) -> Kind:
    if name not in info:
        raise ValueError(f"it lacks its {name}")
    found = dict(read_object(info[name], f"its {name}"))
    named = text(found.pop("kind", None), f"kind of its {name}")
    for kind in kinds:
        if kind.kind == named:
            return kind.read(found)
    raise ValueError(f"its {name} is of the kind {named!r}; known are {', '.join(kind.kind for kind in kinds)}")
