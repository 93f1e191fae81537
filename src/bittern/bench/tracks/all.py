# SPDX-License-Identifier: Apache-2.0
"""The tracks of the benchmark."""

from __future__ import annotations

from bittern.bench.trials.track import Track

ALL: tuple[type[Track], ...] = ()
"""In the order in which readers see them."""
