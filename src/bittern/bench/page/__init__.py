# SPDX-License-Identifier: Apache-2.0
"""The page of `bittern bench report`: trials and what they say, in one HTML file that loads nothing."""
