# SPDX-License-Identifier: Apache-2.0
"""Whether trials that are compared come from one build of bittern."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bittern.bench.core.words import number_word, plural
from bittern.bench.trials.trial import Done


def builds_told(done: Iterable[Done]) -> str:
    """A sentence on trials of several builds; "" for those of one."""
    counts = Counter(one.machine.software + ("" if one.machine.build else ", build unknown") for one in done)
    if len(counts) < 2:
        return ""
    listed = "; ".join(f"{name}: {plural(count, 'trial')}" for name, count in sorted(counts.items()))
    return (
        f"These trials are of {number_word(len(counts))} builds of bittern ({listed}); where two of them differ, it "
        "may be the build that makes the difference."
    )
