"""Run all probes and print the page; with --write, write it to a file.

pip install ".[compare]"
python -m benchmarks.compare [--help]
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from benchmarks.compare.cells import cell, load
from benchmarks.compare.page import NAMES, render
from benchmarks.compare.rows import TABLES

HEAD = """# Compared with other libraries

{found}

```
pip install ".[compare]"
PYTHONPATH=FMix python -m benchmarks.compare --write docs/compare.md
```

FMix is no package (the name on PyPI is another program's): here, `FMix` is a clone of
[its repository](https://github.com/ecs-vlc/FMix). Without the clone, the cells of FMix say "not run". albumentations
2.0.8 is the last one under the MIT licence; its successor, AlbumentationsX, was not run.

A cell is the answer of a probe, which calls a library as its documentation says and looks at what comes out
([the probes](../benchmarks/compare/probes.py), [the calls](../benchmarks/compare/libraries)). "Yes" means that all the
transforms do it that the row is about, and "partly" that some do. For volumes, videos and masks that are not boxes, one
transform is enough. The notes say which, and what came out of others. The transforms:

- cowmask: CowMix, CutMix, MixUp, CowOut, CutOut; for containers and single images, those of
  `cowmask.integrations.torchvision`
- torchvision (`transforms.v2`): CutMix, MixUp, RandomErasing; `p` by RandomApply, the same masks by `make_params`
- kornia: RandomCutMixV2, RandomMixUpV2, RandomTransplantation (for maps), RandomErasing; clips by VideoSequential
- timm: Mixup in its mode "elem", as CutMix and as MixUp; RandomErasing
- MONAI: CutMix, also by its `apply_on_labels` for labels, MixUp, CutOut; RandCoarseDropout for single images
- albumentations: CoarseDropout, CoarseDropout3D and Mosaic, in Compose, for each image of a batch
- FMix: the class for PyTorch Lightning, whose loss mixes the labels

The rows of the first four tables are what cowmask was made for, so it does well there. The last table and the last
section are about what it was not made for. How fast it is: [on a CPU](performance.md), [on a GPU](kernels.md)."""

FOOT = """## Where others are better

cowmask does masks, mixing and erasing, and nothing else. Take another library, alone or before cowmask, for

- **anything geometric, or of colour**: torchvision and albumentations flip, crop, rotate and recolour single images
  with their targets, and kornia batches on a GPU;
- **detection and pose**: masks cannot mix bounding boxes or key points. kornia and albumentations have mosaics with
  boxes, and albumentations' erasers look after boxes and key points;
- **other ways of mixing**: kornia has jigsaw, mosaic, PatchMix and the transplantation of whole classes, albumentations
  mosaic and overlays;
- **NumPy arrays and PIL images in a data set**: albumentations, MONAI and torchvision take those, cowmask
  tensors alone;
- **class labels for a classifier, and nothing more**: torchvision's CutMix and MixUp do all that this needs, and many
  know them;
- **medical images from file to loss**: MONAI has readers, the geometry of volumes, losses and inference;
- **age**: the others have had years of users, and cowmask has not."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.compare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, help="where the page goes")
    parser.add_argument("--libraries", nargs="+", choices=NAMES, default=list(NAMES), help="the others are not run")
    arguments = parser.parse_args()
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks a server for its newest version
    torch.set_num_threads(1)
    libraries = {name: load(name) if name in arguments.libraries else "not asked for" for name in NAMES}
    found = {}
    for title, rows in TABLES.items():
        found[title] = {row.title: {name: cell(library, row) for name, library in libraries.items()} for row in rows}
        print(f"{title}: {len(rows)} rows", file=sys.stderr)
    page = render(found, HEAD, FOOT)
    if arguments.write is None:
        print(page)
    else:
        arguments.write.write_text(page)


if __name__ == "__main__":
    main()
