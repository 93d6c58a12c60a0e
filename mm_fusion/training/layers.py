"""The bricks of which the network is built."""

from __future__ import annotations

import math

import torch
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


class Attention(nn.Module):
    """One transformer encoder layer over the coarse bird's-eye cells and two presence tokens.

    Pre-norm, multi-head (Vaswani et al., 2017; Xiong et al., 2020). Both senses are in every cell
    token by now; the presence tokens tell each cell which sense is there at all, so that "no
    points here" and "no LIDAR" are different things.
    """

    def __init__(self, channels: int, heads: int, cells: tuple[int, int]) -> None:
        super().__init__()
        self.heads = heads
        self.position = nn.Parameter(torch.randn(cells[0] * cells[1], channels) * 0.02)
        self.presence = nn.Parameter(torch.randn(2, 2, channels) * 0.02)
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, x: Tensor, has: Tensor) -> Tensor:
        """``x`` [B,channels,nx,ny]; ``has`` [B,2]: points there, any image there (0 or 1)."""
        batch, channels, nx, ny = x.shape
        cells = x.flatten(2).transpose(1, 2) + self.position
        flags = has.reshape(batch, 2, 1)
        presence = flags * self.presence[:, 1] + (1.0 - flags) * self.presence[:, 0]
        tokens = torch.cat([cells, presence], dim=1)
        tokens = tokens + self.out(self.attend(self.norm1(tokens)))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens[:, : nx * ny].transpose(1, 2).reshape(batch, channels, nx, ny)

    def attend(self, tokens: Tensor) -> Tensor:
        """Scaled dot-product attention over tokens [B,T,channels]."""
        batch, count, channels = tokens.shape
        size = channels // self.heads
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = torch.softmax((q @ k.transpose(-1, -2)) * (1.0 / math.sqrt(size)), dim=-1)
        return (weights @ v).transpose(1, 2).reshape(batch, count, channels)
