# SPDX-License-Identifier: Apache-2.0
"""What models learn: `task` says what a task is, each other file holds one."""
