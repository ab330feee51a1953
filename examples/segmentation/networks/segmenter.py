"""The wrapper around every network: RGB images of any size to logits of the same size."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Normalisation(NamedTuple):
    """A network's input: (scale * image - mean) / std, with mean and std in the network's order of channels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1.0
    bgr: bool = False


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = Normalisation((104.00698793, 116.66876762, 122.67891434), (1.0, 1.0, 1.0), scale=255.0, bgr=True)


class Segmenter(nn.Module):
    """Normalise images (B, 3, H, W), pad them to whole strides, run the network, cut its logits (B, K, H, W) to size.

    Args:
        network: Images to logits; `network.encoder` is its pre-trained part.
        normalisation: As in the training of its weights.
        stride: Height and width are padded to multiples of this.
        freeze_bn: Keep the encoder's batch-norm as it is.
        report: Lines for the user on loading the weights.
        architecture: What `build_blank` needs beside the normalisation, to build a network of the same kind.
    """

    network: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        normalisation: Normalisation,
        stride: int,
        freeze_bn: bool,
        report: tuple[str, ...] = (),
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.normalisation, self.architecture = normalisation, architecture
        self.network, self.stride, self.freeze_bn, self.report = network, stride, freeze_bn, report
        mean, std, self.scale, self.bgr = normalisation
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of RGB images (B, 3, H, W) in [0, 1]."""
        height, width = images.shape[-2:]
        x = images.flip(1) if self.bgr else images
        x = (self.scale * x - self.mean) / self.std
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        return self.network(x)[..., :height, :width]

    def train(self, mode: bool = True) -> "Segmenter":
        """Switch to training; the batch-norm of a frozen encoder stays in eval mode (paper, C.3.1)."""
        super().train(mode)
        if self.freeze_bn:
            for module in self.network.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @property
    def mean_colour(self) -> Tensor:
        """The RGB colour (3, 1, 1) in [0, 1] that normalisation turns into 0."""
        return (self.mean.flip(0) if self.bgr else self.mean) / self.scale

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of the encoder."""
        return [parameter for parameter in self.network.encoder.parameters() if parameter.requires_grad]

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters outside of the encoder."""
        encoder = set(self.network.encoder.parameters())
        return [parameter for parameter in self.parameters() if parameter.requires_grad and parameter not in encoder]
