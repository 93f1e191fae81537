# SPDX-License-Identifier: Apache-2.0
"""Training steps of binary networks beside their float twins: time, and memory of what backward needs."""
