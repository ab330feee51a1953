"""Try a network before training on tensors that have shapes and no numbers.

That takes neither memory nor long, draws nothing and moves no statistics.
"""

import copy

import torch
from torch import Tensor, nn

from segmentation.networks.segmenter import Segmenter
from segmentation.networks.weights import NetworkError, first_line


def rehearse(network: Segmenter, n_images: int, size: tuple[int, int], tested_size: tuple[int, int]) -> None:
    """Check that a network can be trained on batches of `n_images` of a size (height, width), and tested on another.

    Raises:
        NetworkError: It cannot. Some encoders take one size only; batch-norm cannot be trained on one value a channel.
    """
    with torch.no_grad():
        _predict(_stand_in(network).train(), n_images, size)
        if tested_size != size:
            _predict(_stand_in(network).eval(), 1, tested_size)


def freeze_unused(network: Segmenter, n_images: int, size: tuple[int, int]) -> None:
    """Freeze the parameters that get no gradients. Processes that train together would wait for them."""
    stand_in = _stand_in(network).train()
    _predict(stand_in, n_images, size).sum().backward()
    for own, tried in zip(network.parameters(), stand_in.parameters(), strict=True):
        if tried.grad is None:
            own.requires_grad_(False)


def _stand_in(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).to("meta")


def _predict(network: nn.Module, n_images: int, size: tuple[int, int]) -> Tensor:
    height, width = size
    try:
        return network(torch.empty(n_images, 3, height, width, device="meta"))
    except Exception as error:  # each encoder has its own words
        images = f"images of {width}x{height} pixels" + f", {n_images} in a batch" * network.training
        raise NetworkError(
            f"the network cannot be {'trained' if network.training else 'tested'} on {images}: choose another "
            f"--encoder, --size or --batch-size ({first_line(error).rstrip('.')})."
        ) from error
