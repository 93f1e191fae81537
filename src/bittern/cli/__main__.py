# SPDX-License-Identifier: Apache-2.0
"""`python -m bittern.cli`: the command line where no program `bittern` is installed."""

from __future__ import annotations

import sys

from bittern.cli import main

sys.exit(main())
