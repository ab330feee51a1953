"""DeepLab v2, the network of Hung et al. 2018, with the names of its published weights."""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

LAYERS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}  # blocks in layer1 to layer4
RATES = (6, 12, 18, 24)


class AtrousHead(nn.Module):
    """Sum 3x3 convolutions of several dilations: (B, C, H, W) to (B, K, H, W).

    Chen et al. 2017 sum all four, as is done here. Public copies of the code of Hung et al., that of this paper's
    authors among them, return inside the loop over the branches, so their results are of the first two, rates 6 and 12.
    """

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        branches = [nn.Conv2d(channels, n_classes, kernel_size=3, padding=rate, dilation=rate) for rate in RATES]
        for branch in branches:
            nn.init.normal_(branch.weight, std=0.01)
        self.conv2d_list = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the branches."""
        return reduce(torch.add, (branch(x) for branch in self.conv2d_list))


class DeepLabV2(ResNet):
    """DeepLab v2 (Chen et al. 2017) on a ResNet of output stride 8: normalised images to logits of the same size.

    The affine parameters of batch-norm are not trained.

    Args:
        n_classes: Classes K.
        layers: Blocks of each layer, as in `LAYERS`.
        stride_on_3x3: Where layer2's first block strides: on its 3x3 convolution, as torchvision's weights were
            trained, or on its first 1x1, as those converted from Caffe were.
    """

    def __init__(self, n_classes: int, layers: tuple[int, ...] = LAYERS["resnet101"], *, stride_on_3x3: bool) -> None:
        super().__init__(Bottleneck, list(layers), replace_stride_with_dilation=[False, True, True])
        del self.avgpool, self.fc
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1, ceil_mode=True)
        # torchvision dilates a layer's first block as the layer before; DeepLab as the rest of its own.
        for layer, dilation in ((self.layer3, 2), (self.layer4, 4)):
            layer[0].conv2.dilation = layer[0].conv2.padding = (dilation, dilation)
        if not stride_on_3x3:
            first = self.layer2[0]
            first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        self.layer5 = AtrousHead(512 * Bottleneck.expansion, n_classes)

    def _body(self) -> tuple[nn.Module, ...]:
        return self.conv1, self.bn1, self.relu, self.maxpool, self.layer1, self.layer2, self.layer3, self.layer4

    @property
    def encoder(self) -> nn.Sequential:
        """All but the head."""
        return nn.Sequential(*self._body())  # made anew: as an attribute it would be in the state dict twice

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of normalised images (B, 3, H, W)."""
        size = x.shape[-2:]
        for module in self._body():
            x = module(x)
        return F.interpolate(self.layer5(x), size, mode="bilinear", align_corners=True)
