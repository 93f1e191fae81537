# SPDX-License-Identifier: Apache-2.0
"""What each operator of TensorFlow Lite becomes in a program: one function an operator."""
