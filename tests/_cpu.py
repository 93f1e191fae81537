# SPDX-License-Identifier: Apache-2.0
"""What a test says about the CPU, so that it does not depend on the one at hand."""

from __future__ import annotations

import pytest

from bittern import _native


def pretend(monkeypatch: pytest.MonkeyPatch, **features: bool) -> None:
    """Make the CPU say that it has these features, or lacks them; of the others it has none."""
    said = dict.fromkeys(_native.cpu_features(), False)
    assert set(features) <= set(said)
    monkeypatch.setattr(_native, "cpu_features", lambda: said | features)
