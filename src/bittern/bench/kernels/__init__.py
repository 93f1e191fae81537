# SPDX-License-Identifier: Apache-2.0
"""Kernels against torch and its peers, each pair timed in turn."""
