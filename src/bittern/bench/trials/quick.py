# SPDX-License-Identifier: Apache-2.0
"""What `bittern bench quick` runs: what two cores do in minutes with the data that come with bittern."""

from __future__ import annotations

from bittern import binary
from bittern.bench.tracks import all as listed
from bittern.bench.trials.track import Choice, Track

TRACKS = ("learning_task", "corruption_robustness", "theoretical_complexity", "hardware_inference")
CHOICE = Choice(
    methods={method.__name__: method for method in binary.COMPARED}, seeds=(0, 1, 2), epochs=3, tasks=("digits",)
)


def tracks() -> list[Track]:
    return [track() for track in listed.ALL if track.name in TRACKS]
