# SPDX-License-Identifier: Apache-2.0
"""Losses beside that of the task: `added_loss` says what one is, each other file holds one paper's or kind's."""
