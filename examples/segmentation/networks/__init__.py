"""Networks that take RGB images in [0, 1] of any size: U-Net and DeepLab v2."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from segmentation.networks.deeplab import blank_deeplab2, build_deeplab2
from segmentation.networks.rehearsal import freeze_unused, rehearse
from segmentation.networks.segmenter import CAFFE, IMAGENET, Normalisation, Segmenter
from segmentation.networks.unet import blank_unet, build_unet
from segmentation.networks.weights import NetworkError

__all__ = [
    "CAFFE",
    "IMAGENET",
    "NetworkError",
    "NetworkName",
    "Normalisation",
    "Segmenter",
    "build_blank",
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


def build_blank(architecture: Mapping[str, Any], normalisation: Normalisation) -> Segmenter:
    """Build a network of the kind that `Segmenter.architecture` describes, for weights that are loaded next."""
    arguments = {name: value for name, value in architecture.items() if name != "network"}
    builders: dict[str, Callable[..., Segmenter]] = {"unet": blank_unet, "deeplab2": blank_deeplab2}
    return builders[architecture["network"]](normalisation, **arguments)
