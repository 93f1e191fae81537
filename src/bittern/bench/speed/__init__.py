# SPDX-License-Identifier: Apache-2.0
"""Packed networks against other engines."""
