"""Semi-supervised segmentation of street scenes by the methods of the paper's Table 1.

pip install ".[examples]"
python examples/train_camvid.py                                  built-in scenes, a few minutes on a laptop
python examples/train_camvid.py --data DIR --encoder-weights imagenet
python examples/train_camvid.py --help

DIR holds CamVid in the SegNet tutorial's layout: train, trainannot, val, valannot, test, testannot. Training images
without a label map are unlabelled images.
The script writes metrics.json, panel.png, logs and checkpoints.
"""

from segmentation.config import Config, ConfigError
from segmentation.data.camvid import load_camvid
from segmentation.data.datasets import Dataset
from segmentation.data.street import load_street
from segmentation.presets import camvid
from segmentation.run import start


def load(config: Config) -> tuple[Dataset, list[str]]:
    """Read CamVid, or draw the built-in scenes without --data."""
    if not config.data:
        note = "No --data given: training on the built-in procedural street scenes."
        return load_street(config.size), [note, "With the default options that takes five minutes on two CPU cores."]
    if len(config.data) > 1:
        raise ConfigError("--data takes one folder, that of CamVid.")
    data = load_camvid(config.data[0], config.size)
    n, unlabelled = len(data.train.names), len(data.unlabelled)
    note = f"CamVid: {n - unlabelled} of {n} training images have a label map; the others are unlabelled images."
    return data, [note] if unlabelled else []


if __name__ == "__main__":
    start(load, camvid, __doc__)
