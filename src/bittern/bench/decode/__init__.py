# SPDX-License-Identifier: Apache-2.0
"""`bittern bench decode`: a language model with weights of few bits, token by token."""
