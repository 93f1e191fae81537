# SPDX-License-Identifier: Apache-2.0
"""Small trained networks that come with bittern: packed, with what it takes to ask them, and with a card each."""

from __future__ import annotations

from bittern.pretrained.answers import Answer
from bittern.pretrained.card import Card
from bittern.pretrained.network import Pretrained
from bittern.pretrained.shelf import card, load, names

__all__ = ["Answer", "Card", "Pretrained", "card", "load", "names"]
