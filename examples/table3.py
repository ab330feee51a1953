"""The paper's Tables 3 and 6: Pascal VOC by number of labelled images and per class, beside the paper's numbers.

pip install ".[examples]"
python examples/table3.py --deeplab-weights resnet101COCO.pth -- --data DIR
python examples/table3.py --row unet-supervised unet-cowmix --labelled 100 --seeds 1 -- --data DIR
python examples/table3.py --help

Arguments after -- go to train_pascal_voc.py. Repeat an interrupted command to continue. The script writes
table3.md, table3.json, table3.png and table6.md.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segmentation.campaigns import label_tables, runner
from segmentation.campaigns.label_tables import LabelTables


@dataclass(frozen=True)
class Options(label_tables.Options):
    """Options of the tables; options of the trainings, such as --data, follow --."""

    labelled: tuple[int, ...] = (100, 200, 400, 800, 2_646, 10_582)
    """Numbers of labelled images, the columns."""
    out: Path = Path("runs/table3")
    """Folder for the tables and the plot, and for each training, ROW/LABELLED/SEED."""


if __name__ == "__main__":
    runner.start(partial(label_tables.main, LabelTables(3, 6, "train_pascal_voc.py", 10_582)), Options, __doc__)
