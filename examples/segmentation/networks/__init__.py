"""Networks that take RGB images in [0, 1] of any size: U-Net and DeepLab v2."""

from typing import Literal

from segmentation.networks.deeplab import build_deeplab2
from segmentation.networks.rehearsal import freeze_unused, rehearse
from segmentation.networks.segmenter import CAFFE, IMAGENET, Normalisation, Segmenter
from segmentation.networks.unet import build_unet
from segmentation.networks.weights import NetworkError

__all__ = [
    "CAFFE",
    "IMAGENET",
    "NetworkError",
    "NetworkName",
    "Normalisation",
    "Segmenter",
    "build_deeplab2",
    "build_network",
    "build_unet",
    "freeze_unused",
    "rehearse",
]

NetworkName = Literal["unet", "deeplab2"]


def build_network(
    name: NetworkName, encoder: str, weights: str, n_classes: int, decoder_channels: tuple[int, ...]
) -> Segmenter:
    """Build a network by name; `decoder_channels` are the U-Net's alone. See `build_unet` and `build_deeplab2`."""
    if name == "unet":
        return build_unet(encoder, weights, n_classes, decoder_channels)
    return build_deeplab2(encoder, weights, n_classes)
