# SPDX-License-Identifier: Apache-2.0
"""Optimizers: the time of a step, and what states in few bits do to trainings."""
