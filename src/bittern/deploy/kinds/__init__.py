# SPDX-License-Identifier: Apache-2.0
"""The kinds of nodes that a program is made of: `kind` says what a kind is, `table` lists all."""
