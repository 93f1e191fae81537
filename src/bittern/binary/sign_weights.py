# SPDX-License-Identifier: Apache-2.0
"""SignWeights: weights that are signs themselves, for optimizers that flip them (1906.02107, 2002.10778)."""

from __future__ import annotations

from torch import Tensor

from bittern.binary._common import check_choice, check_limit
from bittern.estimators import Clip, binarize
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode
from bittern.start import RandomSigns


class SignWeights(Quantizer):
    """Weights without latent weights: the parameter is -1 or +1 itself. Signs of inputs. No scale.

    Forward: w_q = w; x_q = sign(x).
    Backward: dL/dw = dL/dw_q, which `optim.Bop` and `optim.BayesBiNN` turn into flips;
    dL/dx = dL/dx_q * 1{|x| <= limit}.
    Start: -1 or +1, each with chance 1/2. A converted network keeps its real weights:
    `nn.start_latent_weights` draws signs, `nn.sign_latent_weights` puts those of the weights.

    relaxed: let weights lie between -1 and +1 between two steps, as BayesBiNN's means do (evaluate="mean"); such a
    network packs after its signs were put in, and not before.
    Differences: the authors' networks compute the signs of inputs as BNN does, with limit 1.
    Errors: ValueError, by `settle`, where an optimizer moved weights off -1 and +1; `deploy.pack` refuses them too.
    Source: arXiv 1906.02107 (Bop).
    """

    start = RandomSigns()
    latent_free = True

    def __init__(self, shape: LayerShape, *, limit: float = 1.0, relaxed: bool = False) -> None:
        super().__init__(shape)
        check_limit("SignWeights", "limit", limit)
        check_choice("SignWeights", "relaxed", relaxed, (False, True))
        self.limit = limit
        self.relaxed = relaxed

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(w)

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, Clip(self.limit)))

    def input_code(self) -> InputCode:
        return SignCode()

    def settle(self, w: Tensor) -> None:
        """Refuse a weight that no optimizer of signs left. Raises: ValueError."""
        size = w.detach().abs()
        off = size > 1.0 if self.relaxed else size != 1.0
        off |= size.isnan()
        if bool(off.any()):
            found = float(w.detach()[off][0])
            grid = "between -1 and +1" if self.relaxed else "-1 or +1"
            raise ValueError(
                f"SignWeights: weights must be {grid}; got {found:g}; let optim.Bop or optim.BayesBiNN move them, and "
                "start from signs (nn.start_latent_weights, nn.sign_latent_weights)"
            )
