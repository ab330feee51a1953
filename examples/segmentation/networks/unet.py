"""U-Net, from segmentation_models_pytorch."""

from pathlib import Path

import segmentation_models_pytorch as smp

from segmentation.networks.segmenter import IMAGENET, Normalisation, Segmenter
from segmentation.networks.weights import NetworkError, first_line, load_weights, read_weights

STRIDE = 32  # the deepest features of the encoders are this many times smaller than the image


def build_unet(encoder: str, weights: str, n_classes: int, decoder_channels: tuple[int, ...]) -> Segmenter:
    """Build a U-Net.

    On ResNet-50 the decoder takes the outputs of conv4_x, conv3_x and conv2_x (1024, 512 and 256 channels), as in the
    paper's Table 4. What differs: it takes conv1's (64 channels) too; its blocks enlarge by nearest neighbour and have
    two 3x3 convolutions with batch-norm, where the authors' have a 4x4 transposed convolution and one 3x3 without; it
    has no 3x3 convolution before the first block; the last convolution is 3x3, not 1x1; and the widths are
    `decoder_channels`, where the authors' are 192 at stride 32, then 128, 96, 64, 48 and 32.

    Args:
        encoder: A name segmentation_models_pytorch knows; "tu-NAME" for any of timm's.
        weights: "imagenet" downloads them, "none" starts at random, anything else is a file of the encoder's weights
            under the names of its library (.safetensors, or a state dict saved by torch). Pre-trained batch-norm is
            frozen.
        n_classes: Classes K.
        decoder_channels: Channels of the decoder's five blocks, deepest first.
    """
    pretrained = weights != "none"
    download = "imagenet" if weights == "imagenet" else None
    normalisation = IMAGENET
    try:
        network = smp.Unet(encoder, encoder_weights=download, classes=n_classes, decoder_channels=decoder_channels)
        # Normalise as the weights were trained. Only timm's settings are at hand without a download.
        if weights == "imagenet" or (pretrained and encoder.startswith("tu-")):
            settings = smp.encoders.get_preprocessing_params(encoder, "imagenet")
            normalisation = Normalisation(tuple(settings["mean"]), tuple(settings["std"]))
    except Exception as error:  # the libraries, and a download that fails, raise all kinds
        raise NetworkError(f"no encoder {encoder!r} with weights {weights!r}: {first_line(error)}") from error
    report: tuple[str, ...] = ()
    if weights not in ("imagenet", "none"):
        target = getattr(network.encoder, "model", network.encoder)  # timm's encoders sit one level down
        report = load_weights(target, read_weights(Path(weights)), Path(weights).name)
    return Segmenter(network, normalisation, STRIDE, freeze_bn=pretrained, report=report)
