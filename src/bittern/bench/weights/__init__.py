# SPDX-License-Identifier: Apache-2.0
"""Weights of 2 to 8 bits: block codecs, and linear layers with weights from memory, against what others have."""
