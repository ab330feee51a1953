"""DeepLab v2, the network of Hung et al. 2018. Its parameters have the names of the published weights."""

from functools import reduce
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from segmentation.networks.segmenter import CAFFE, IMAGENET, Normalisation, Segmenter
from segmentation.networks.weights import NetworkError, download_weights, load_weights, read_weights

LAYERS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}  # blocks in layer1 to layer4
RATES = (6, 12, 18, 24)


class AtrousHead(nn.Module):
    """Sum 3x3 convolutions of several dilations: (B, C, H, W) to (B, K, H, W).

    As in Chen et al. 2017, all four branches count. Public copies of the code of Hung et al., among them this paper's
    authors', return inside the loop over the branches: their results use rates 6 and 12 only.
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
        stride_on_3x3: Where layer2's first block has its stride: in the 3x3 convolution, for torchvision's weights, or
            in the first 1x1, for weights converted from Caffe.
    """

    def __init__(self, n_classes: int, layers: tuple[int, ...] = LAYERS["resnet101"], *, stride_on_3x3: bool) -> None:
        super().__init__(Bottleneck, list(layers), replace_stride_with_dilation=[False, True, True])
        del self.avgpool, self.fc
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1, ceil_mode=True)
        # torchvision gives a layer's first block the dilation of the layer before, DeepLab that of its own layer.
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
        """The network without its head."""
        return nn.Sequential(*self._body())  # not an attribute: the state dict would hold its weights twice

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of normalised images (B, 3, H, W)."""
        size = x.shape[-2:]
        for module in self._body():
            x = module(x)
        return F.interpolate(self.layer5(x), size, mode="bilinear", align_corners=True)


def build_deeplab2(encoder: str, weights: str, n_classes: int) -> Segmenter:
    """Build DeepLab v2.

    Args:
        encoder: "resnet101" or "resnet50".
        weights: "imagenet" downloads torchvision's (IMAGENET1K_V1), "none" starts at random. Anything else is a file
            (.safetensors, or a state dict saved by torch) of the whole network, as Hung et al. published it, or of
            torchvision's ResNet; stride and input follow from its kind. Pre-trained batch-norm is frozen. Weights of
            the head that are missing, or for other classes, start at random.
        n_classes: Classes K.
    """
    if encoder not in LAYERS:
        raise NetworkError(f"deeplab2 has no encoder {encoder!r}: it takes one of {', '.join(LAYERS)}.")
    if weights == "none":
        return blank_deeplab2(IMAGENET, encoder, n_classes, stride_on_3x3=True)
    state = download_weights(encoder) if weights == "imagenet" else read_weights(Path(weights))
    for prefix in ("module.", "Scale."):  # added by DataParallel, and by code that trains at several scales
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    published = any(name.startswith("layer5.") for name in state)  # torchvision's ResNet has fc instead
    if not published and "fc.weight" not in state:
        raise NetworkError(f"{weights} is neither of DeepLab v2 nor of torchvision: no layer5 and no fc.weight in it.")
    network = blank_deeplab2(CAFFE if published else IMAGENET, encoder, n_classes, stride_on_3x3=not published)
    network.report = load_weights(network.network, state, Path(weights).name, head="layer5.")
    network.freeze_bn = True
    return network.train()


def blank_deeplab2(normalisation: Normalisation, encoder: str, n_classes: int, stride_on_3x3: bool) -> Segmenter:
    """Build DeepLab v2 for weights that are loaded next."""
    architecture = {
        "network": "deeplab2",
        "encoder": encoder,
        "n_classes": n_classes,
        "stride_on_3x3": stride_on_3x3,
    }
    network = DeepLabV2(n_classes, LAYERS[encoder], stride_on_3x3=stride_on_3x3)
    return Segmenter(network, normalisation, stride=1, freeze_bn=False, architecture=architecture)
