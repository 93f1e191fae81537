# SPDX-License-Identifier: Apache-2.0
"""What every test may count on."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Generator

import pytest
import torch
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with Ctrl-C ignored, and every child inherits that; some tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The ordinary run tries the same examples every time; HYPOTHESIS_PROFILE=deep tries many new ones (make fuzz).
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ordinary", derandomize=True, max_examples=64, deadline=None, suppress_health_check=SLOW)
settings.register_profile("deep", max_examples=3000, deadline=None, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ordinary"))


NO_PEERS = "runs in the environment of the peers (make peers)"
ALLOWED_TO_SKIP = ("needs a CUDA device", NO_PEERS)
"""With --no-skips, any other reason fails: CI has everything but a GPU, and a test that never runs tells nothing."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail what is skipped for another reason than a GPU")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `peers` compare with other libraries; some of those pin what others need, and none of them is
    needed to work on Bittern, so the ordinary environment has none. In their own, where BITTERN_PEERS is set, a missing
    one fails its tests."""
    peers = (name for mark in item.iter_markers("peers") for name in mark.args)
    if "BITTERN_PEERS" not in os.environ and any(importlib.util.find_spec(name) is None for name in peers):
        pytest.skip(NO_PEERS)


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
