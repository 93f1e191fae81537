# SPDX-License-Identifier: Apache-2.0
"""Networks that lie on devices, an edge and a cloud, packed: exits, the bytes between them, and sockets."""

from __future__ import annotations

from bittern.ddnn.costs import device_bytes, paper_bytes
from bittern.ddnn.decide import Answers, NobodyThereError
from bittern.ddnn.edge import Edge
from bittern.ddnn.entropy import normalized_entropy
from bittern.ddnn.folder import DDNNFolder, Tiling, open_ddnn, save_ddnn
from bittern.ddnn.frames import FrameError
from bittern.ddnn.packed import PackedDDNN, Shapes, pack_ddnn
from bittern.ddnn.places import Cloud, Device, cloud_server, device_server, serve
from bittern.ddnn.thresholds import ThresholdRow, choose_thresholds, threshold_table
from bittern.ddnn.wire import Server, Traffic

__all__ = [
    "Answers",
    "Cloud",
    "DDNNFolder",
    "Device",
    "Edge",
    "FrameError",
    "NobodyThereError",
    "PackedDDNN",
    "Server",
    "Shapes",
    "ThresholdRow",
    "Tiling",
    "Traffic",
    "choose_thresholds",
    "cloud_server",
    "device_bytes",
    "device_server",
    "normalized_entropy",
    "open_ddnn",
    "pack_ddnn",
    "paper_bytes",
    "save_ddnn",
    "serve",
    "threshold_table",
]
