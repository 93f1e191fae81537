# SPDX-License-Identifier: Apache-2.0
"""Other packages' names, signatures and file formats over this package's code; one sub-package per package."""
