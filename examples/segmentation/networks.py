"""Networks that take RGB images in [0, 1] of any size: U-Net and DeepLab v2."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from segmentation.deeplab import LAYERS, DeepLabV2

NetworkName = Literal["unet", "deeplab2"]
UNET_STRIDE = 32  # the deepest features of the encoders are this many times smaller than the image


class NetworkError(Exception):
    """The network or its weights are not to be had; the message is one sentence for the user."""


class Normalisation(NamedTuple):
    """What a network takes for input: (scale * image - mean) / std, mean and std in its own order of channels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1.0
    bgr: bool = False


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = Normalisation((104.00698793, 116.66876762, 122.67891434), (1.0, 1.0, 1.0), scale=255.0, bgr=True)


class Segmenter(nn.Module):
    """Normalise, pad to whole strides, run the network, cut the padding off: (B, 3, H, W) to (B, K, H, W) logits.

    Args:
        network: Its pre-trained part is `network.encoder`.
        normalisation: What its weights were trained with.
        stride: Lengths are padded to multiples of this.
        freeze_bn: Keep the encoder's batch-norm as it is.
        report: What there is to tell of loading the weights, by lines.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: smp.Unet | DeepLabV2,
        normalisation: Normalisation,
        stride: int,
        freeze_bn: bool,
        report: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
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
        """Switch to training; a frozen encoder's batch-norm stays as it was pre-trained (paper, C.3.1)."""
        super().train(mode)
        if self.freeze_bn:
            for module in self.network.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return what is trained of the encoder."""
        return [parameter for parameter in self.network.encoder.parameters() if parameter.requires_grad]

    def head_parameters(self) -> list[nn.Parameter]:
        """Return what is trained of the rest."""
        encoder = set(self.network.encoder.parameters())
        return [parameter for parameter in self.parameters() if parameter.requires_grad and parameter not in encoder]


def build_network(
    name: NetworkName, encoder: str, weights: str, n_classes: int, decoder_channels: tuple[int, ...]
) -> Segmenter:
    """Build a network by name; `decoder_channels` are the U-Net's alone. See `build_unet` and `build_deeplab2`."""
    if name == "unet":
        return build_unet(encoder, weights, n_classes, decoder_channels)
    return build_deeplab2(encoder, weights, n_classes)


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
        raise NetworkError(f"no encoder {encoder!r} with weights {weights!r}: {_first_line(error)}") from error
    report: tuple[str, ...] = ()
    if weights not in ("imagenet", "none"):
        target = getattr(network.encoder, "model", network.encoder)  # timm's encoders sit one level down
        report = _load(target, _read(Path(weights)), Path(weights).name)
    return Segmenter(network, normalisation, UNET_STRIDE, freeze_bn=pretrained, report=report)


def build_deeplab2(encoder: str, weights: str, n_classes: int) -> Segmenter:
    """Build DeepLab v2.

    Args:
        encoder: "resnet101", or "resnet50".
        weights: "imagenet" downloads torchvision's (IMAGENET1K_V1), "none" starts at random, anything else is a file
            (.safetensors, or a state dict saved by torch) of the whole network, as published by Hung et al., or of
            torchvision's ResNet; stride and input follow from which. Pre-trained batch-norm is frozen. What of the
            head is missing, or was for other classes, starts at random.
        n_classes: Classes K.
    """
    if encoder not in LAYERS:
        raise NetworkError(f"deeplab2 has no encoder {encoder!r}: it takes one of {', '.join(LAYERS)}.")
    if weights == "none":
        return Segmenter(DeepLabV2(n_classes, LAYERS[encoder], stride_on_3x3=True), IMAGENET, stride=1, freeze_bn=False)
    state = _download(encoder) if weights == "imagenet" else _read(Path(weights))
    for prefix in ("module.", "Scale."):  # of DataParallel, and of those who train at several scales
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    published = any(name.startswith("layer5.") for name in state)  # else torchvision's, with a classifier of its own
    if not published and "fc.weight" not in state:
        raise NetworkError(f"{weights} is neither of DeepLab v2 nor of torchvision: no layer5 and no fc.weight in it.")
    network = DeepLabV2(n_classes, LAYERS[encoder], stride_on_3x3=not published)
    report = _load(network, state, Path(weights).name, head="layer5.")
    return Segmenter(network, CAFFE if published else IMAGENET, stride=1, freeze_bn=True, report=report)


def _download(encoder: str) -> Mapping[str, Tensor]:
    try:
        chosen = torchvision.models.get_model_weights(encoder)["IMAGENET1K_V1"]
        return chosen.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # a download that fails raises all kinds
        raise NetworkError(f"no ImageNet weights of {encoder} from torchvision: {_first_line(error)}") from error


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise NetworkError(f"{path} is no file: --encoder-weights takes imagenet, none or a file of weights.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise NetworkError(f"{path} cannot be read as weights: {_first_line(error)}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise NetworkError(f"{path} is no state dict: a mapping of names to tensors is expected.")
    return state


def _load(module: nn.Module, state: Mapping[str, Tensor], source: str, head: str | None = None) -> tuple[str, ...]:
    """Load what fits, and report all that does not, by lines.

    Args:
        module: What to load into.
        state: Weights by name.
        source: What to call them in the report.
        head: Where names begin with this, weights may be missing or of another shape; they stay as they are.

    Raises:
        NetworkError: Others are.
    """
    target = module.state_dict()
    # Files of PyTorch before 0.4.1 do not have these counts, which only batch-norm without momentum uses.
    missing = [name for name in target if name not in state and not name.endswith("num_batches_tracked")]
    other_shape = {
        name: f"{name} {tuple(state[name].shape)} for {tuple(value.shape)}"
        for name, value in target.items()
        if name in state and state[name].shape != value.shape
    }
    unfit = {name: name for name in missing} | other_shape
    if needed := [text for name, text in unfit.items() if head is None or not name.startswith(head)]:
        raise NetworkError(
            f"{source} does not fit the encoder: {len(needed)} weights missing or of another shape: {', '.join(needed)}"
        )
    fitting = {name: value for name, value in state.items() if name in target and name not in other_shape}
    module.load_state_dict(fitting, strict=False)
    findings = {
        "missing, left at random": missing,
        "of another shape, left at random": list(other_shape.values()),
        "of no use": [name for name in state if name not in target],
    }
    return tuple(f"{source}: {len(n)} weights {what}: {', '.join(n)}" for what, n in findings.items() if n)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200]
