"""Networks: a U-Net of segmentation_models_pytorch that takes images in [0, 1] of any size."""

from collections.abc import Mapping
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

STRIDE = 32  # the deepest features of the encoders are this many times smaller than the image
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class NetworkError(Exception):
    """The encoder or its weights are not to be had; the message is one sentence for the user."""


class Segmenter(nn.Module):
    """Normalise, pad to whole strides, run the network, cut the padding off: (B, 3, H, W) to (B, K, H, W) logits."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: smp.Unet, mean: tuple[float, ...], std: tuple[float, ...], freeze_bn: bool) -> None:
        super().__init__()
        self.network, self.freeze_bn = network, freeze_bn
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, 3, H, W) in [0, 1]."""
        height, width = images.shape[-2:]
        x = (images - self.mean) / self.std
        x = F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        return self.network(x)[..., :height, :width]

    def train(self, mode: bool = True) -> "Segmenter":
        """Switch to training; a frozen encoder's batch-norm stays as it was pre-trained (paper, C.3.1)."""
        super().train(mode)
        if self.freeze_bn:
            for module in self.network.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


def build_unet(encoder: str, weights: str, n_classes: int, decoder_channels: tuple[int, ...]) -> Segmenter:
    """Build a U-Net.

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
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    try:
        network = smp.Unet(encoder, encoder_weights=download, classes=n_classes, decoder_channels=decoder_channels)
        # Normalise as the weights were trained. Only timm's settings are at hand without a download.
        if weights == "imagenet" or (pretrained and encoder.startswith("tu-")):
            settings = smp.encoders.get_preprocessing_params(encoder, "imagenet")
            mean, std = tuple(settings["mean"]), tuple(settings["std"])
    except Exception as error:  # the libraries, and a download that fails, raise all kinds
        first_line = next(iter(str(error).splitlines()), "")
        raise NetworkError(f"no encoder {encoder!r} with weights {weights!r}: {first_line[:200]}") from error
    if weights not in ("imagenet", "none"):
        _load_encoder(network.encoder, Path(weights))
    return Segmenter(network, mean, std, freeze_bn=pretrained)


def _load_encoder(encoder: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise NetworkError(f"{path} is no file: --encoder-weights takes imagenet, none or a file of encoder weights.")
    target = getattr(encoder, "model", encoder)  # timm's encoders sit one level down
    state: Mapping[str, Tensor]
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except Exception as error:
        raise NetworkError(f"{path} cannot be read as weights: {error}") from error
    try:
        # Module's own: some of segmentation_models_pytorch's encoders override it and return nothing.
        missing, unexpected = nn.Module.load_state_dict(target, state, strict=False)
    except (RuntimeError, TypeError) as error:
        raise NetworkError(f"{path} does not fit the encoder: {error}") from error
    if missing:
        raise NetworkError(f"{path} lacks {len(missing)} of the encoder's weights, the first being {missing[0]}.")
    if unexpected:
        print(f"{path.name}: {len(unexpected)} weights the encoder has no use for, as {unexpected[0]}")
