"""Students for the mean teacher's tests, and what is done to them."""

from typing import Any

import torch
from torch import Tensor, nn

from cowmask import MeanTeacher


class Network(nn.Module):
    """Two blocks, each with batch-norm. `train()` freezes the batch-norm of the first, if asked to."""

    def __init__(self, freezes: bool = False) -> None:
        super().__init__()
        self.freezes = freezes
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.decoder = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 1))

    def train(self, mode: bool = True) -> "Network":
        super().train(mode)
        if self.freezes:
            self.encoder[1].eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.encoder(x))
        return logits


def images(n: int = 4) -> Tensor:
    return 2 + 3 * torch.rand(n, 3, 8, 10)  # far from the statistics that batch-norm starts with


def disturb(network: nn.Module) -> None:
    """Change every weight and statistic at random, as a step of training would."""
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.add_(0.1 * torch.rand_like(tensor) if tensor.is_floating_point() else 1)


def trained() -> Network:
    """Return a network in training mode, with weights and statistics far from the initial ones."""
    network = Network()
    disturb(network)
    return network.train()


def averaged(teacher: MeanTeacher) -> Any:
    """Return the averaged network, whose layers type checkers do not know."""
    return teacher.module


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0, equal_nan=True, msg=name)
