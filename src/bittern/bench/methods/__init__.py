# SPDX-License-Identifier: Apache-2.0
"""Every method on one recipe, and the page that describes each."""
