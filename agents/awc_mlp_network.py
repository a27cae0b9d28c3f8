"""The window regressor as a torch module, and how it is fitted: L1 on the window, AdamW (2511.21669)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from agents.train_config import Regressor
from policies import Layer

Array = NDArray[np.float32]


class ResidualRegressor(nn.Module):
    """Inputs to a hidden layer, blocks of two layers that add to it, SiLU between, and one window out.

    `centre` and `spread` (inputs,) standardise the inputs for training; a policy file has them in its first layer.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(blocks)
        )
        self.last = nn.Linear(width, 1)

    def forward(self, scaled: Tensor) -> Tensor:
        """Return windows (n,) for scaled inputs (n, inputs)."""
        values = self.first((scaled - self.centre) / self.spread)
        for block in self.blocks:
            values = values + block(values)
        windows: Tensor = self.last(functional.silu(values)).squeeze(-1)
        return windows

    def layers(self) -> tuple[Layer, ...]:
        """Return the weights in the order of a policy file."""
        hidden = [module for block in self.blocks for module in block.children() if isinstance(module, nn.Linear)]
        with torch.no_grad():
            first = self.first.weight / self.spread
            pairs = [(first, self.first.bias - first @ self.centre)]
            pairs += [(module.weight, module.bias) for module in (*hidden, self.last)]
            return tuple(Layer(weight.numpy().copy(), bias.numpy().copy()) for weight, bias in pairs)


Watch = Callable[[int, float, ResidualRegressor], None]
"""Told, after each epoch: its number, its mean loss, the network."""


def fit(scaled: Array, windows: Array, settings: Regressor, seed: int, watch: Watch) -> ResidualRegressor:
    """Return a network fitted to rows (n, inputs) and their windows (n,)."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = ResidualRegressor(scaled.shape[1], settings.width, settings.blocks)
    nn.init.constant_(network.last.bias, float(np.median(windows)))
    inputs, wanted = torch.from_numpy(scaled), torch.from_numpy(windows)
    network.centre.copy_(inputs.mean(0))
    network.spread.copy_(inputs.std(0, correction=0).clamp(min=1e-3))
    optimiser = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    steps = settings.epochs * -(-len(inputs) // settings.minibatch)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(1, settings.epochs + 1):
        total = 0.0
        for rows in torch.split(torch.randperm(len(inputs)), settings.minibatch):
            loss = functional.l1_loss(network(inputs[rows]), wanted[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            falling.step()
            total += float(loss.detach()) * len(rows)
        watch(epoch, total / len(inputs), network)
    return network


def predict(network: ResidualRegressor, scaled: Array) -> Array:
    """Return the windows predicted (n,)."""
    with torch.no_grad():
        predicted: Array = network(torch.from_numpy(scaled)).numpy()
    return predicted
