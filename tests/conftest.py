"""What every test may count on."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with Ctrl-C ignored, and every child inherits that; some tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The ordinary run tries the same examples every time; HYPOTHESIS_PROFILE=deep tries many new ones (make fuzz).
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ordinary", derandomize=True, max_examples=120, deadline=None, suppress_health_check=SLOW)
settings.register_profile("deep", max_examples=3000, deadline=None, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ordinary"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random numbers are the same in every run, so that a test that fails fails again."""
    torch.manual_seed(0)
