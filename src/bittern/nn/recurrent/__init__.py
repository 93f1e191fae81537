# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers whose products are layers of their own, so that each can become low-bit; the gates stay real.

base     sizes, products, and the names and parameters of torch's layers        steps    the arithmetic of the gates
cells    one step: LSTMCell, GRUCell                                            layers   sequences: LSTM, GRU
"""

from __future__ import annotations

from torch import nn

from bittern.nn.recurrent.base import LAYERS, why_not
from bittern.nn.recurrent.cells import GRUCell, LSTMCell
from bittern.nn.recurrent.layers import GRU, LSTM

__all__ = ["COUNTERPARTS", "GRU", "LAYERS", "LSTM", "GRUCell", "LSTMCell", "why_not"]

COUNTERPARTS: dict[type[nn.Module], type[GRU | LSTM | GRUCell | LSTMCell]] = {
    made.counterpart: made for made in (LSTM, GRU, LSTMCell, GRUCell)
}
"""Of `LAYERS`."""
