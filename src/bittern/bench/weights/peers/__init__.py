# SPDX-License-Identifier: Apache-2.0
"""What others have: one library a file."""

from __future__ import annotations

from bittern.bench.weights.peers.bitsandbytes_nf4 import BITSANDBYTES
from bittern.bench.weights.peers.ggml import GGML
from bittern.bench.weights.peers.onnx_runtime import ONNX_RUNTIME
from bittern.bench.weights.peers.openvino_integers import OPENVINO
from bittern.bench.weights.peers.torch_float import TORCH_FLOAT
from bittern.bench.weights.peers.torch_int8 import TORCH_INT8

PEERS = (*TORCH_FLOAT, TORCH_INT8, BITSANDBYTES, *OPENVINO, *ONNX_RUNTIME, *GGML)
"""In the order of the columns."""
