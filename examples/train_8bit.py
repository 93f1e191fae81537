# SPDX-License-Identifier: Apache-2.0
"""Train a small network on handwritten digits with optimizer states in 32, 8 and 4 bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bittern import optim
from bittern.data.digits import digits

STEPS = 200


def override(name: str, module: nn.Module, p: Tensor) -> dict[str, object]:
    """Biases without weight decay; everything else as the optimizer says."""
    return {"weight_decay": 0.0} if name.endswith("bias") else {}


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Memory of the optimizer's states."""
    tensors = (x for state in optimizer.state.values() for x in state.values())
    return sum(x.numel() * x.element_size() for x in tensors)


def main() -> None:
    data = digits()
    x, y = data.train_images.flatten(1).float(), data.train_labels
    for bits in (32, 8, 4):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(x.shape[1], 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
        optimizer = optim.AdamW(optim.param_groups(model, override), lr=1e-3, state_bits=bits)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        norms = optim.GradientNorms()
        for _ in range(STEPS):
            batch = torch.randint(0, len(x), (64,))
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optim.clip_grad_percentile_(model.parameters(), norms, 95)
            optimizer.step()
            scheduler.step()
        print(f"{bits:2} bits: loss {loss.item():.4f}, {state_bytes(optimizer) / 1e6:.2f} MB of optimizer states")


if __name__ == "__main__":
    main()
