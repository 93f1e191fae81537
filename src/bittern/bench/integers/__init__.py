# SPDX-License-Identifier: Apache-2.0
"""`bittern bench integers`: float networks quantized by `bittern.quantize`, against other engines' int8 and float."""
