# SPDX-License-Identifier: Apache-2.0
"""The front door: any model that torch can export becomes a program."""

from bittern.deploy.front.read import read

__all__ = ["read"]
