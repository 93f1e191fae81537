# SPDX-License-Identifier: Apache-2.0
"""Running a program fused, on the CPU: `engine.Engine`."""
