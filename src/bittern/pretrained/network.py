# SPDX-License-Identifier: Apache-2.0
"""A trained network that can be asked about raw examples."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bittern.deploy.packed import Packed
from bittern.deploy.shapes import forms_of
from bittern.pretrained.answers import Answer
from bittern.pretrained.card import Card
from bittern.pretrained.use import Use, read_use


class Pretrained:
    """A packed network, its card, and how it is used; made by `bittern.load`.

        net.predict(raw)   answers to one raw example: name and score, of a detector a box too
        net.prepare(raw)   the input of one raw example: a batch of one, on the CPU
        net(x)             the output for a batch of inputs, as the packed network gives it
        net.classes        names, in the order of the output
        net.card           data, training, accuracy, licence
        net.packed         a `bittern.Packed`: to export, or to move to another device

    What a raw example is says `net.card.takes`. Raises: ValueError for a file that does not say how it is used.
    """

    def __init__(self, packed: Packed, card: Card) -> None:
        self.packed = packed
        self.card = card
        self._use = read_use(packed.info)
        _check_fit(packed, self._use)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._use.classes

    def __call__(self, x: Tensor) -> Any:
        """Of inputs [batch, ...] as `prepare` makes them. Raises: TypeError, ValueError for others."""
        return self.packed(x)

    def prepare(self, raw: Any) -> Tensor:
        """Raises: TypeError, ValueError for what is no such example; FileNotFoundError."""
        return self._use.preparation(raw).x

    def predict(self, raw: Any, *, top: int | None = None, least: float | None = None) -> tuple[Answer, ...]:
        """The surest answers to one raw example, the surest first.

        top: so many at most; None: one class, or all boxes. least: their score; None: 0 of classes, of boxes what the
        file says.

        Raises: as `prepare`; ValueError for top below 1 or least outside [0, 1].
        """
        if (top is not None and top < 1) or (least is not None and not 0.0 <= least <= 1.0):
            raise ValueError(f"predict: top must be at least 1 and least in [0, 1]; got {top} and {least}")
        reader = self._use.reader
        prepared = self._use.preparation(raw)
        output = self.packed(prepared.x.to(self.packed.device)).cpu()
        width, height = prepared.size or (1, 1)
        across, down = prepared.x.shape[-1], prepared.x.shape[-2]
        larger = (width / across, height / down) if prepared.size is not None else (1.0, 1.0)
        least = reader.least if least is None else least
        found = [answer for answer in reader(output, self.classes, larger) if answer.score >= least]
        return tuple(found[: reader.top if top is None else top])

    def __repr__(self) -> str:
        return f"Pretrained({self.card.name!r}: {self.card.title}, {self.card.bytes:,} bytes)"


def _check_fit(packed: Packed, use: Use) -> None:
    """Raises: ValueError."""
    shape = use.preparation.shape
    if not packed.takes_one_tensor or packed.sizes or packed.input_shape != shape:
        raise ValueError(f"its preparation gives inputs {list(shape)}, and the network takes {packed!r}")
    form = forms_of(packed.program, packed.tensors)[packed.program.output]
    wanted = use.reader.answers(len(use.classes), shape)
    if form.type != "real" or form.shape[1:] != wanted:
        raise ValueError(
            f"the network must give {list(wanted)} for {len(use.classes)} classes; it gives {list(form.shape[1:])}"
        )
