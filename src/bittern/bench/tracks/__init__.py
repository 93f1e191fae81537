# SPDX-License-Identifier: Apache-2.0
"""The six questions of BiBench (arXiv 2301.11233), one file each, and the tasks that they are asked on."""
