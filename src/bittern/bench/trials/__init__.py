# SPDX-License-Identifier: Apache-2.0
"""Trials of `bittern bench run`: what one is, where their results are kept, and what runs them."""
