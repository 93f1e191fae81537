# SPDX-License-Identifier: Apache-2.0
"""A benchmark within a budget of time: measure what trials cost, plan what fits, and let the better half go on."""
