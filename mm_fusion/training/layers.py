"""The bricks of which the network is built."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def conv(c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; even kernels with stride 2 keep pixel centres aligned."""
    padding = (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., Deep residual learning, 2015)."""

    def __init__(self, channels: int, silent: bool = False) -> None:
        """``silent``: passes on at first what it gets (Goyal et al., Accurate, large minibatch SGD,
        2017), so that it can be put into a network that is trained."""
        super().__init__()
        self.first = conv(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        if silent:
            nn.init.zeros_(self.second[1].weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


def upsample(x: Tensor) -> Tensor:
    """Twice the size by repeating pixels."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
