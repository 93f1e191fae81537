# SPDX-License-Identifier: Apache-2.0
"""The program `bittern`.

It lies outside the package because importing anything of `bittern` imports torch, which takes seconds: Ctrl-C in those
seconds must end the program with one line, as later, and only code that runs before can see to that.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def main() -> int:
    """Run the command line of this process. Returns the exit status."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # neither ignored (nohup) nor another program's
        signal.signal(signal.SIGINT, _leave)
    from bittern.cli import main as run

    signal.signal(signal.SIGINT, before)
    return run()


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: an exception would be raised inside a half-imported module, and some of those swallow it."""
    os.write(2, b"bittern: interrupted\n")
    os._exit(INTERRUPTED)
