# SPDX-License-Identifier: Apache-2.0
"""What every benchmark uses: the machine, times, trials, and results as files."""
