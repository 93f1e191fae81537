# SPDX-License-Identifier: Apache-2.0
"""The command line `bittern`, and the only place where strings become objects.

Every module here imports what is heavy inside its commands, so that `--help` and shell completion stay quick. Errors
are one line on stderr: status 2 for a command line that cannot be understood, 1 for one that cannot be done, 130 for
Ctrl-C. The program begins in `bittern_command`, which answers Ctrl-C while this package is being imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from bittern.cli.commands import app
from bittern.cli.errors import Interrupted, report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (None: that of this process). Returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # taken out here, so that it works before and after the command
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        status = app(args=words, prog_name="bittern", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort) as error:
        return report(Interrupted("interrupted"), debug, error)
    except Exception as error:
        return report(error, debug, error)
    if status == 130:  # how newer versions of Typer answer Ctrl-C
        return report(Interrupted("interrupted"), False, None)
    return status if isinstance(status, int) else 0
