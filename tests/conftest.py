"""What every test may count on."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with Ctrl-C ignored, and every child inherits that; some tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
