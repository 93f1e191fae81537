# SPDX-License-Identifier: Apache-2.0
"""`bitsandbytes.autograd`: a package of one module, `_functions`."""
