# SPDX-License-Identifier: Apache-2.0
"""The README's picture is that of the committed results."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

from bittern.bench import picture


def test_the_picture_is_not_stale() -> None:
    assert picture.PICTURE.read_text() == picture.from_results(), "run python -m bittern.bench.picture"


def test_bars_are_as_long_as_their_numbers() -> None:
    parts = (picture.Panel("t < 1", "ms", (picture.Bar("a", 10.0, False), picture.Bar("b", 2.5, True))),)
    root = ElementTree.fromstring(picture.drawing(parts))
    widths = [float(e.attrib["width"]) for e in root.iter() if e.tag.endswith("rect")][1:]
    assert widths == [picture.ROOM, picture.ROOM / 4]


def test_the_numbers_are_those_of_the_result_pages() -> None:
    rows = json.loads((picture.RESULTS / "optim_speed.json").read_text())["rows"]
    ours = next(r for r in rows if r["subject"] == f"AdamW, 8-bit state: {picture.STEP}")
    assert f"{ours['latency_us']['median'] / 1e3:.3g}" in re.findall(r">([\d.]+)<", picture.PICTURE.read_text())
