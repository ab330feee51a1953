"""Weights of networks: download them, read them from a file, load those that fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from segmentation.errors import UserError
from segmentation.storage import read_tensors

_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class NetworkError(UserError):
    """The network cannot be built, or its weights cannot be loaded; the message is one sentence for the user."""


def download_weights(encoder: str) -> Mapping[str, Tensor]:
    """Return torchvision's ImageNet weights of a ResNet."""
    try:
        chosen = torchvision.models.get_model_weights(encoder)["IMAGENET1K_V1"]
        return chosen.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # a failed download raises errors of many types
        raise NetworkError(f"no ImageNet weights of {encoder} from torchvision: {first_line(error)}") from error


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a file, by name. Nothing that the file holds is run."""
    if not path.is_file():
        raise NetworkError(f"{path} is no file: --encoder-weights takes imagenet, none or a file of weights.")
    try:
        state = load_file(path) if path.suffix.lower() == ".safetensors" else read_tensors(path)
    except SafetensorError as error:
        raise NetworkError(f"{path} cannot be read as weights: {first_line(error)}") from error
    if not isinstance(state, Mapping) or not all(map(_is_weight, state.items())):
        raise NetworkError(f"{path} is no state dict: a mapping of names to plain tensors is expected.")
    return state


def _is_weight(item: tuple[object, object]) -> bool:
    name, value = item
    if not (isinstance(name, str) and isinstance(value, Tensor)) or value.is_nested or value.is_quantized:
        return False
    return value.layout == torch.strided and value.device.type == "cpu"  # "meta" has no numbers


def load_weights(
    module: nn.Module, state: Mapping[str, Tensor], source: str, head: str | None = None
) -> tuple[str, ...]:
    """Load the weights that fit, and report all others in lines of text.

    Args:
        module: Where to load them.
        state: Weights by name.
        source: Their name in the report.
        head: Weights whose names have this prefix may be missing or of another shape; they stay random.

    Raises:
        NetworkError: If other weights are missing or of another shape, or hold anything but finite numbers.
    """
    target = module.state_dict()
    # PyTorch before 0.4.1 did not save these counts. Only batch-norm without momentum uses them.
    missing = [name for name in target if name not in state and not name.endswith("num_batches_tracked")]
    other_shape = {
        name: f"{name} {tuple(state[name].shape)} for {tuple(value.shape)}"
        for name, value in target.items()
        if name in state and state[name].shape != value.shape
    }
    unfit = {name: name for name in missing} | other_shape
    if needed := [text for name, text in unfit.items() if head is None or not name.startswith(head)]:
        raise NetworkError(
            f"{source} does not fit the encoder: {len(needed)} weights missing or of another shape: {_some(needed)}"
        )
    fitting = {name: value for name, value in state.items() if name in target and name not in other_shape}
    if broken := [name for name, value in fitting.items() if not _is_finite(value, like=target[name])]:
        raise NetworkError(f"{source} holds {len(broken)} weights that are not finite numbers: {_some(broken)}")
    module.load_state_dict(fitting, strict=False)
    findings = {
        "missing, left at random": missing,
        "of another shape, left at random": list(other_shape.values()),
        "of no use": [name for name in state if name not in target],
    }
    return tuple(f"{source}: {len(n)} weights {what}: {_some(n)}" for what, n in findings.items() if n)


def _is_finite(value: Tensor, like: Tensor) -> bool:
    kinds = _FLOATING if like.is_floating_point() else (like.dtype,)
    return value.dtype in kinds and bool(value.to(like.dtype).isfinite().all())


def _some(names: Sequence[str], most: int = 10) -> str:
    """Join names, but for those beyond the first ones."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return next(iter(str(error).splitlines()), "")[:200]
