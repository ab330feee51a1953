"""Semi-supervised segmentation of Cityscapes: the paper's Tables 2 and 5, Figure 6.

pip install ".[examples]"
python examples/train_cityscapes.py --data leftImg8bit_trainvaltest.zip gtFine_trainvaltest.zip --labelled 372
python examples/train_cityscapes.py --data DIR --network deeplab2 --encoder-weights resnet101COCO.pth
python examples/train_cityscapes.py --data DIR --network deeplab2 --recipe hung
python examples/train_cityscapes.py --help

DIR holds leftImg8bit and gtFine, as the official archives do; archives are read in place. The defaults are the paper's:
half resolution, 100 labelled images, 100,000 iterations, tested on the 500 validation images at half and full
resolution. The script writes metrics.json, panel.png, logs and checkpoints.
"""

from segmentation.config import Config, ConfigError
from segmentation.data.cityscapes import load_cityscapes
from segmentation.data.datasets import Dataset
from segmentation.presets import cityscapes
from segmentation.run import start


def load(config: Config) -> tuple[Dataset, list[str]]:
    """Open Cityscapes."""
    if not config.data:
        raise ConfigError("--data takes what holds leftImg8bit and gtFine: a folder, or the official zips.")
    return load_cityscapes(config.data, config.size)


if __name__ == "__main__":
    start(load, cityscapes, __doc__)
