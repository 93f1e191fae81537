# SPDX-License-Identifier: Apache-2.0
"""A clock for tests of what measures time."""

from __future__ import annotations

from collections.abc import Callable


class FakeClock:
    """Time passes only where a function says so."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.calls: list[str] = []

    def __call__(self) -> int:
        return self.now_ns

    def takes(self, name: str, us: Callable[[int], float]) -> Callable[[], None]:
        """A function whose call number n takes us(n) microseconds."""
        count = 0

        def call() -> None:
            nonlocal count
            self.now_ns += int(us(count) * 1000)
            self.calls.append(name)
            count += 1

        return call
