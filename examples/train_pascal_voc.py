"""Semi-supervised segmentation of Pascal VOC 2012 with SBD's labels: the paper's Tables 3 and 6, Figure 7.

pip install ".[examples]"
python examples/train_pascal_voc.py --data VOCtrainval_11-May-2012.tar benchmark.tar --labelled 200
python examples/train_pascal_voc.py --data DIR --network deeplab2 --encoder-weights resnet101COCO.pth
python examples/train_pascal_voc.py --data DIR --network deeplab2 --recipe hung
python examples/train_pascal_voc.py --help

DIR holds VOC2012 and SBD's benchmark_RELEASE, as the official archives do; archives are read in place. Turn SBD's
benchmark.tgz into a tar first (gunzip benchmark.tgz). The defaults are the paper's: crops of 321x321, batches of 10,
100 labelled images, tested on the 1,449 validation images. The script writes metrics.json, panel.png, logs and
checkpoints.
"""

from segmentation.config import Config, ConfigError
from segmentation.data.datasets import Dataset
from segmentation.data.pascal_voc import load_pascal_voc
from segmentation.presets import pascal_voc
from segmentation.run import start


def load(config: Config) -> tuple[Dataset, list[str]]:
    """Open Pascal VOC and SBD."""
    if not config.data:
        raise ConfigError("--data takes what holds VOC2012 and SBD: folders, zips or tars.")
    return load_pascal_voc(config.data)


if __name__ == "__main__":
    start(load, pascal_voc, __doc__)
