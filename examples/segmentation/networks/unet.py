"""U-Net, from segmentation_models_pytorch."""

from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
from torch import nn

from segmentation.networks import lite0
from segmentation.networks.segmenter import IMAGENET, Normalisation, Segmenter
from segmentation.networks.weights import NetworkError, first_line, load_weights, read_weights

STRIDE = 32  # the deepest features of the encoders are this many times smaller than the image


def build_unet(encoder: str, weights: str, n_classes: int, decoder_channels: tuple[int, ...]) -> Segmenter:
    """Build a U-Net.

    docs/paper.md lists how the decoder differs from the one in the paper's Table 4.

    Args:
        encoder: A name of segmentation_models_pytorch, or "tu-NAME" for an encoder of timm.
        weights: "imagenet" downloads them, "lite0" takes those of EfficientNet-Lite0 from a package (`lite0.py`),
            "none" starts at random. Anything else is a file with the encoder's weights under its library's names
            (.safetensors, or a state dict saved by torch). Pre-trained batch-norm is frozen.
        n_classes: Classes K.
        decoder_channels: Channels of the decoder's five blocks, deepest first.
    """
    if weights == "lite0" and encoder != lite0.ENCODER:
        raise NetworkError(
            f"--encoder-weights lite0 is for --encoder {lite0.ENCODER}: for {encoder}, give imagenet, none or a file."
        )
    pretrained = weights != "none"
    download = "imagenet" if weights == "imagenet" else None
    normalisation = IMAGENET
    try:
        network = smp.Unet(encoder, encoder_weights=download, classes=n_classes, decoder_channels=decoder_channels)
        # Normalise as in the training of the weights. Without a download only timm's settings are at hand.
        if weights == "imagenet" or (pretrained and encoder.startswith("tu-")):
            settings = smp.encoders.get_preprocessing_params(encoder, "imagenet")
            normalisation = Normalisation(tuple(settings["mean"]), tuple(settings["std"]))
    except Exception as error:  # the libraries and failed downloads raise errors of many types
        raise NetworkError(f"no encoder {encoder!r} with weights {weights!r}: {first_line(error)}") from error
    report: tuple[str, ...] = ()
    if weights not in ("imagenet", "none"):
        target = getattr(network.encoder, "model", network.encoder)  # timm's encoders sit one level down
        state = lite0.lite0_weights() if weights == "lite0" else read_weights(Path(weights))
        report = load_weights(target, state, Path(weights).name)
    return _segmenter(network, normalisation, encoder, n_classes, decoder_channels, freeze_bn=pretrained, report=report)


def blank_unet(
    normalisation: Normalisation, encoder: str, n_classes: int, decoder_channels: tuple[int, ...]
) -> Segmenter:
    """Build a U-Net for weights that are loaded next."""
    network = smp.Unet(encoder, encoder_weights=None, classes=n_classes, decoder_channels=decoder_channels)
    return _segmenter(network, normalisation, encoder, n_classes, decoder_channels, freeze_bn=False)


def _segmenter(
    network: nn.Module,
    normalisation: Normalisation,
    encoder: str,
    n_classes: int,
    decoder_channels: tuple[int, ...],
    **options: Any,
) -> Segmenter:
    architecture = {
        "network": "unet",
        "encoder": encoder,
        "n_classes": n_classes,
        "decoder_channels": decoder_channels,
    }
    return Segmenter(network, normalisation, STRIDE, architecture=architecture, **options)
