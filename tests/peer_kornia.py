"""kornia's own augmentations, cowmask's bare transforms and the integration, asked for what kornia promises.

python -m tests.peer_kornia [--failed]    prints how many of the promises each keeps, and which it breaks
"""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import kornia.augmentation as K

from cowmask import CowMix, CowOut
from cowmask.integrations import kornia as integration
from tests.kornia_promises import CASES, IMAGE, Subject

SIGMA = (1.0, 4.0)  # for images of some 30 pixels


def _kornias(kind: str, **options: Any) -> Any:
    options = {"p": 1.0} | options
    return K.RandomCutMixV2(use_correct_lambda=True, **options) if kind == "mix" else K.RandomErasing(**options)


def _integrated(kind: str, **options: Any) -> Any:
    make: Any = integration.RandomCowMix if kind == "mix" else integration.RandomCowOut
    return make(**{"sigma": SIGMA, "p": 1.0} | options)


def _bare(kind: str, p: float = 1.0, value: float = 0.0) -> Any:
    return CowMix(SIGMA, p=p) if kind == "mix" else CowOut(SIGMA, p=p, fill=value)


def _alone(child: Any, sequence: Any, kind: str, keys: Sequence[str] = IMAGE, **options: Any) -> Any:
    """Return a mix augmentation; or an eraser, which needs a sequence for anything but images."""
    if kind == "mix":
        return child(kind, data_keys=list(keys), **options)
    return child(kind, **options) if keys == IMAGE else sequence(child(kind, **options), data_keys=list(keys))


def _held(kind: str, keys: Sequence[str] = IMAGE, p: float = 1.0, value: float = 0.0, **options: Any) -> Any:
    """Return a bare transform as kornia can hold it: in a sequence, which takes kornia's options."""
    return K.AugmentationSequential(_bare(kind, p, value), data_keys=list(keys), **options)


KORNIA = Subject(
    "kornia's own",
    partial(_alone, _kornias, K.AugmentationSequential),
    _kornias,
    K.AugmentationSequential,
)
BARE = Subject("bare", _held, _bare, K.AugmentationSequential)
INTEGRATED = Subject(
    "integration",
    partial(_alone, _integrated, integration.AugmentationSequential),
    _integrated,
    integration.AugmentationSequential,
)


def broken(subject: Subject) -> dict[str, str]:
    """Return the names of the promises that a subject breaks, and how."""
    found = {}
    for case in CASES:
        try:
            case.check(subject)
        except Exception as error:
            found[case.name] = f"{type(error).__name__} {error}".split("\n")[0]
    return found


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--failed", action="store_true", help="print also which promises are broken, and how")
    options = parser.parse_args()
    for subject in (KORNIA, BARE, INTEGRATED):
        found = broken(subject)
        print(f"{subject.name}: {len(CASES) - len(found)} of {len(CASES)}")
        if options.failed:
            print("".join(f"    {name}: {how[:120]}\n" for name, how in found.items()), end="")


if __name__ == "__main__":
    main()
