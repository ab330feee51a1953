"""Semi-supervised segmentation of your own images, of which some have a label map.

pip install ".[examples]"
python examples/train_folder.py --images photos --labels painted
python examples/train_folder.py --images photos --labels painted --colours colours.txt --size 180 240 --iterations 2000
python examples/train_folder.py --help

Images are JPEG, PNG, WebP, TIFF, BMP or PPM. A label map has the name of its image (photos/a.jpg, painted/a.png) and
holds a class's id, or its colour, in each pixel. docs/own-pictures.md leads from painting to predictions.
The script writes metrics.json, panel.png, logs and checkpoints, and the trained network, which predict.py takes.
"""

from segmentation.config import FolderConfig
from segmentation.data.datasets import Dataset
from segmentation.data.folder import load_folder
from segmentation.presets import folder
from segmentation.run import start


def load(config: FolderConfig) -> tuple[Dataset, list[str]]:
    """Find images and label maps."""
    return load_folder(config, config.size, config.seed, config.out)


if __name__ == "__main__":
    start(load, folder, __doc__)
