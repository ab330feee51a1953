"""The paper's Tables 2 and 5: Cityscapes by number of labelled images and per class, beside the paper's numbers.

pip install ".[examples]"
python examples/table2.py --deeplab-weights resnet101COCO.pth -- --data DIR
python examples/table2.py --row unet-supervised unet-cowmix --labelled 100 --seeds 1 -- --data DIR
python examples/table2.py --help

Arguments after -- go to train_cityscapes.py. Repeat an interrupted command to continue. The script writes
table2.md, table2.json, table2.png and table5.md.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segmentation.campaigns import label_tables, runner
from segmentation.campaigns.label_tables import LabelTables


@dataclass(frozen=True)
class Options(label_tables.Options):
    """Options of the tables; options of the trainings, such as --data, follow --."""

    labelled: tuple[int, ...] = (100, 372, 744, 1_488, 2_975)
    """Numbers of labelled images, the columns."""
    out: Path = Path("runs/table2")
    """Folder for the tables and the plot, and for each training, ROW/LABELLED/SEED."""


if __name__ == "__main__":
    runner.start(partial(label_tables.main, LabelTables(2, 5, "train_cityscapes.py", 2_975)), Options, __doc__)
