# SPDX-License-Identifier: Apache-2.0
"""Two small networks, one with an edge level."""

from __future__ import annotations

import pytest
import torch

from _ddnn import CLASSES, SIZE, Case, case_of
from bittern.binary import BNN, BiRealNet
from bittern.models import AveragePooling, Concatenation, Level, ddnn
from bittern.quant import BWN


@pytest.fixture(scope="package")
def plain() -> Case:
    """Devices and a cloud: MP, then CC."""
    torch.manual_seed(0)
    return case_of(ddnn(BNN, CLASSES, views=2, input_size=SIZE, cloud=Level((8,)), shared=True), 0)


@pytest.fixture(scope="package")
def with_edge() -> Case:
    """A local exit of CC, an edge of AP, and weights of one bit behind real inputs."""
    torch.manual_seed(1)
    edge = Level((8,), AveragePooling())
    model = ddnn(
        BiRealNet,
        CLASSES,
        views=2,
        input_size=SIZE,
        device_widths=(3,),
        local=Concatenation(),
        edge=edge,
        cloud=Level((8,)),
        shared=True,
        real_inputs=BWN,
    )
    return case_of(model, 1)
