"""A trained network in one file: its weights, and all that is needed to use them on new images.

The file is in the format of safetensors, so that loading it runs no code. Its header holds a description as JSON.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from segmentation.networks import NetworkError, Normalisation, Segmenter, build_blank
from segmentation.storage import replaced

FILE = "network.safetensors"
_KEY, _VERSION = "segmentation", 1


@dataclass(frozen=True)
class Trained:
    """A network, and what its outputs mean."""

    network: Segmenter
    """RGB images (B, 3, H, W) in [0, 1] to logits (B, K, H, W); in eval mode."""
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    """One for each class, as #rrggbb."""
    size: tuple[int, int] | None
    """Height and width that images were resized to in training; None if they were not resized."""


def save_network(path: Path | str, trained: Trained) -> None:
    """Write a network that `build_network` built; `load_network` reads it."""
    network = trained.network
    description = {
        "version": _VERSION,
        "architecture": network.architecture,
        "normalisation": network.normalisation._asdict(),
        "classes": trained.classes,
        "colours": trained.colours,
        "size": trained.size,
    }
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replaced(Path(path)) as file:
        file.write(save(state, {_KEY: json.dumps(description)}))


def load_network(run: Path | str) -> Trained:
    """Read the network of a run.

    Args:
        run: The file, or the folder of a method, or the folder of a run with one method.

    Raises:
        NetworkError: There is no such file, or it is damaged, or it was not written by `save_network`.
    """
    path = _find(Path(run))
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # of a damaged file, safetensors raises errors of many types
        raise NetworkError(f"{path} cannot be read as a trained network: {_one_line(error)}.") from error
    try:
        return _build(json.loads(metadata[_KEY]), state)
    except NetworkError:
        raise
    except Exception as error:  # the description can hold anything
        raise NetworkError(f"{path} does not describe a network that can be built here: {_one_line(error)}.") from error


def _build(description: dict[str, Any], state: dict[str, Tensor]) -> Trained:
    if description["version"] != _VERSION:
        raise NetworkError(f"the network was saved in version {description['version']}, this is version {_VERSION}.")
    normalisation = Normalisation(**_tuples(description["normalisation"]))
    architecture = _tuples(description["architecture"])
    network = build_blank(architecture, normalisation)
    network.load_state_dict(state)
    classes, colours, size = (_tuples(description)[name] for name in ("classes", "colours", "size"))
    if not len(classes) == len(colours) == architecture["n_classes"]:
        raise NetworkError(f"{len(classes)} names and {len(colours)} colours of {architecture['n_classes']} classes.")
    return Trained(network.eval(), classes, colours, size)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """Return JSON's lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _find(run: Path) -> Path:
    if run.is_file():
        return run
    found = [run / FILE] if (run / FILE).is_file() else sorted(run.glob(f"*/{FILE}"))
    if not found:
        raise NetworkError(f"{run} holds no trained network ({FILE}): name the folder of a finished run.")
    if len(found) > 1:
        raise NetworkError(f"{run} holds several networks: name one of {_listed(found)}.")
    return found[0]


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(str(path.parent) for path in paths)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
