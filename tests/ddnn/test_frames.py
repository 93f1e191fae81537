# SPDX-License-Identifier: Apache-2.0
"""What is sent: sizes and bits by hand, and bytes that are no frame."""

from __future__ import annotations

import math
import struct

import pytest
import torch

from _ddnn import CLASSES, EXAMPLES, Case
from bittern.ddnn import Cloud, Device, FrameError, frames
from bittern.ddnn.frames import MOST_EXAMPLES, Kind, decode, encode


def test_signs_take_a_bit_each() -> None:
    """Nine signs: +-++ ---+ +, the first in the lowest bit: 0b10001101, 0b1."""
    signs = torch.tensor([[1.0, -1, 1, 1, -1, -1, -1, 1, 1]]).view(1, 1, 3, 3)
    assert frames.signs(signs) == bytes([0b10001101, 1])
    both = torch.cat([signs, -signs])
    assert frames.bytes_of_signs((1, 3, 3)) == 2
    assert torch.equal(frames.read_signs(memoryview(frames.signs(both)), 2, (1, 3, 3)), both)
    assert frames.read_signs(memoryview(b""), 0, (1, 3, 3)).shape == (0, 1, 3, 3)
    for body in (b"\0", b"\0\0\0", bytes([0, 2])):
        with pytest.raises(FrameError, match="signs"):
            frames.read_signs(memoryview(body), 1, (1, 3, 3))


def test_header_by_hand() -> None:
    message = encode(Kind.SCORES, 7, 1, frames.scores(torch.tensor([[1.0, -2.0]])))
    assert message == b"BD\x01\x02" + struct.pack("<II", 7, 1) + struct.pack("<2f", 1.0, -2.0)
    assert torch.equal(frames.read_scores(decode(message), Kind.SCORES, 1, 2), torch.tensor([[1.0, -2.0]]))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"BD\x01\x02",
        b"XX" + encode(Kind.SCORES, 0, 0, b"")[2:],
        encode(Kind.SCORES, 0, 0, b"")[:2] + b"\x02" + encode(Kind.SCORES, 0, 0, b"")[3:],
        encode(99, 0, 0, b""),  # type: ignore[arg-type]
        encode(Kind.SCORES, 0, MOST_EXAMPLES + 1, b""),
    ],
    ids=["empty", "short", "magic", "version", "kind", "count"],
)
def test_bytes_that_are_no_frame(message: bytes) -> None:
    with pytest.raises(FrameError):
        decode(message)


def test_scores_that_were_not_asked_for() -> None:
    good = encode(Kind.SCORES, 0, 1, struct.pack("<2f", 1.0, 2.0))
    for count, classes, kind in ((2, 2, Kind.SCORES), (1, 3, Kind.SCORES), (1, 2, Kind.ANSWERS)):
        with pytest.raises(FrameError):
            frames.read_scores(decode(good), kind, count, classes)
    for bad in (math.nan, math.inf):
        with pytest.raises(FrameError, match="finite"):
            frames.read_scores(decode(encode(Kind.SCORES, 0, 1, struct.pack("<2f", 1.0, bad))), Kind.SCORES, 1, 2)
    with pytest.raises(FrameError, match=r"refused: no\?thing"):
        frames.read_scores(decode(frames.refusal(0, "no\nthing")), Kind.SCORES, 1, 2)
    assert len(frames.refusal(0, "ü" * 500)) <= frames.HEADER.size + frames.MOST_REASON


def test_parts_that_are_there() -> None:
    here = torch.ones(2, 1, 3, 3)
    body = frames.parts([None, here, -here])
    assert body == bytes([0b110, 255, 1, 255, 1, 0, 0, 0, 0])
    found = frames.read_parts(decode(encode(Kind.ASK_CLOUD, 0, 2, body)), 3, (1, 3, 3))
    assert found[0] is None
    assert found[1] is not None
    assert torch.equal(found[1], here)
    assert found[2] is not None
    assert torch.equal(found[2], -here)
    for bad in (b"", body[:-1], body + b"\0", b"\0", bytes([0b1000]) + body[1:5]):
        with pytest.raises(FrameError):
            frames.read_parts(decode(encode(Kind.ASK_CLOUD, 0, 2, bad)), 3, (1, 3, 3))


def test_numbers_that_are_asked_for() -> None:
    with pytest.raises(ValueError, match="2\\^32"):
        frames.indices([-1])
    with pytest.raises(ValueError, match="4096"):
        frames.indices(range(MOST_EXAMPLES + 1))
    for rows in ([1, 1], [2, 1], [5]):
        with pytest.raises(FrameError, match="rise"):
            frames.read_rows(decode(encode(Kind.ASK_SIGNS, 0, len(rows), frames.indices(rows))), 5)


def _ask(kind: Kind, request: int, numbers: list[int]) -> bytes:
    return encode(kind, request, len(numbers), frames.indices(numbers))


def test_a_device_answers_and_refuses(plain: Case) -> None:
    device = Device(plain.packed.devices[0], plain.packed.shapes, lambda numbers: plain.views[0][list(numbers)])
    want = plain.packed.exits([plain.views[0], None])["device 0"]
    reply = decode(device.answer(b"me", _ask(Kind.ASK_SCORES, 5, [3, 1])))
    assert torch.equal(frames.read_scores(reply, Kind.SCORES, 2, CLASSES), want[[3, 1]])
    signs = decode(device.answer(b"me", _ask(Kind.ASK_SIGNS, 5, [1])))
    with torch.no_grad():
        sent = plain.model.device(0).block(plain.views[0][1:2])
    assert torch.equal(frames.read_signs(signs.body, 1, plain.packed.shapes.features), sent)
    refused = {
        "another's request": (b"you", _ask(Kind.ASK_SIGNS, 5, [0])),
        "an older request": (b"me", _ask(Kind.ASK_SIGNS, 4, [0])),
        "a row that is none": (b"me", _ask(Kind.ASK_SIGNS, 5, [2])),
        "an example that is none": (b"me", _ask(Kind.ASK_SCORES, 6, [EXAMPLES])),
        "an answer": (b"me", encode(Kind.SCORES, 6, 0, b"")),
        "no frame": (b"me", b"\x80\x04pickled"),
        "a count that lies": (b"me", encode(Kind.ASK_SCORES, 6, 4000, b"\0" * 8)),
    }
    for what, (who, message) in refused.items():
        assert decode(device.answer(who, message)).kind is Kind.REFUSED, what
    assert device.examples == 2, "nothing ran for what was refused"
    for stranger in range(8):
        device.answer(bytes([stranger]), _ask(Kind.ASK_SCORES, 1, [0]))
    assert decode(device.answer(b"me", _ask(Kind.ASK_SIGNS, 5, [1]))).kind is Kind.REFUSED, "it forgets"


def test_a_cloud_answers_and_refuses(plain: Case) -> None:
    cloud = Cloud(plain.packed.cloud, plain.packed.shapes)
    with torch.no_grad():
        sent = [plain.model.device(0).block(view) for view in plain.views]
    reply = decode(cloud.answer(b"", encode(Kind.ASK_CLOUD, 9, EXAMPLES, frames.parts(sent))))
    want = plain.packed.exits(plain.views)["cloud"]
    assert torch.equal(frames.read_scores(reply, Kind.ANSWERS, EXAMPLES, CLASSES), want)
    for message in (b"", encode(Kind.ASK_CLOUD, 9, 1, frames.parts(sent)), _ask(Kind.ASK_SCORES, 9, [0])):
        assert decode(cloud.answer(b"", message)).kind is Kind.REFUSED
    assert cloud.examples == EXAMPLES
