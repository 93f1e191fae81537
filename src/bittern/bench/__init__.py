# SPDX-License-Identifier: Apache-2.0
"""Measurements: kernels against torch, every method on one recipe, and the demo. Nothing here is needed to run."""
