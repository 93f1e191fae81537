# SPDX-License-Identifier: Apache-2.0
"""Recurrent language models of few bits: perplexity without and with training."""
