# SPDX-License-Identifier: Apache-2.0
"""From trials to networks that come with bittern: their files, their cards, and the page of the cards."""

from __future__ import annotations

from bittern.bench.cards.publish import Subject, publish

__all__ = ["Subject", "publish"]
