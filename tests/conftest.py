# SPDX-License-Identifier: Apache-2.0
"""What every test may count on."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest
import torch
from hypothesis import HealthCheck, settings

from _peers import REASON

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with Ctrl-C ignored, and every child inherits that; some tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The ordinary run tries the same examples every time; HYPOTHESIS_PROFILE=deep tries many new ones (make fuzz).
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ordinary", derandomize=True, max_examples=120, deadline=None, suppress_health_check=SLOW)
settings.register_profile("deep", max_examples=3000, deadline=None, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ordinary"))


ALLOWED_TO_SKIP = ("needs a CUDA device", REASON)
"""With --no-skips, any other reason fails: CI has everything but a GPU, and a test that never runs tells nothing."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail what is skipped for another reason than a GPU")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("no_skips"):
        reason = str(report.longrepr)
        if not any(allowed in reason for allowed in ALLOWED_TO_SKIP):
            report.outcome, report.longrepr = "failed", f"skipped, which --no-skips forbids: {reason}"
    return report


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random numbers are the same in every run, so that a test that fails fails again."""
    torch.manual_seed(0)
