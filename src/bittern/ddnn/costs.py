# SPDX-License-Identifier: Apache-2.0
"""Bytes that a device sends: by the paper's formula, and as bittern's frames really are."""

from __future__ import annotations

from bittern.ddnn.frames import HEADER, SCORE, bytes_of_signs
from bittern.ddnn.packed import Shapes

SHORT_MESSAGE = 255
"""Up to here ZeroMQ's protocol writes the size of a message in one byte, else in eight; a byte of flags goes first."""


def on_the_wire(message: int) -> int:
    """Bytes that a message of so many bytes takes in a TCP stream of ZeroMQ (ZMTP 3.1, section "framing")."""
    return message + (2 if message <= SHORT_MESSAGE else 9)


def paper_bytes(classes: int, local_share: float, filters: int, outputs: float) -> float:
    """Bytes that one device sends of one example: c = 4 C + (1 - l) f o / 8.

    classes: C, a float32 score each. local_share: l, in [0, 1]. filters, outputs: f filters of o bits each.
    Raises: ValueError for a share outside [0, 1].
    """
    if not 0.0 <= local_share <= 1.0:
        raise ValueError(f"paper_bytes: local_share must lie in [0, 1]; got {local_share}")
    return 4 * classes + (1.0 - local_share) * filters * outputs / 8


def device_bytes(shapes: Shapes, batch: int, going_on: int) -> int:
    """Bytes that one device really sends of a batch of which so many examples do not leave at the local exit.

    The paper's, with whole bytes for the signs of an example, and for each of the one or two messages a header of 12
    bytes and ZeroMQ's 2 or 9.
    """
    sent = on_the_wire(HEADER.size + batch * shapes.classes * SCORE.itemsize)
    if going_on:
        sent += on_the_wire(HEADER.size + going_on * bytes_of_signs(shapes.features))
    return sent
