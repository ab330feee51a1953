"""One hyper-parameter of a method over a range of values, as in the paper's Figures 8 to 10.

pip install ".[examples]"
python examples/sweep.py --parameter sigma -- --data DIR --encoder-weights imagenet
python examples/sweep.py --parameter ema --subsets 1 --at-once 2 --baseline -- --data DIR --encoder-weights FILE
python examples/sweep.py --help

Arguments after -- go to train_camvid.py. Repeat an interrupted command to continue. The script writes
PARAMETER.json and PARAMETER.png.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segmentation.campaigns import runner
from segmentation.campaigns.plots import save_sweep
from segmentation.campaigns.runner import Job, Summary
from segmentation.methods import MethodName
from segmentation.storage import locked

# The paper gives these values in pictures only. Its text names a few: weights from 3 to 30, 10 being best (Figure 8);
# EMA, of little effect (Figure 9); fixed sigmas between 4 and 8, 4-16 being best (Figure 10); proportions fixed for
# CowMix, drawn for CowOut (section 4.2). The ranges here reach beyond. A-B: each mask draws its own from A to B.
VALUES = {
    "consistency-weight": ("0.3", "1", "3", "10", "30", "100"),
    "ema": ("0.9", "0.97", "0.99", "0.997", "0.999"),
    "sigma": ("2", "4", "8", "16", "32", "2-8", "4-16", "8-32"),
    "proportion": ("0.25", "0.5", "0.75", "0.25-0.75", "0.25-1", "0-1"),
}
LABELS = {
    "consistency-weight": "weight of the consistency loss",
    "ema": "EMA: share of its old weights that the teacher keeps each iteration",
    "sigma": "sigma, pixels of a 480x360 image (a range: log-uniform)",
    "proportion": "proportion p (a range: uniform)",
}


@dataclass(frozen=True, kw_only=True)
class Options(runner.Options):
    """Options of the sweep; options of the trainings follow --."""

    parameter: Literal["consistency-weight", "ema", "sigma", "proportion"]
    """The option of train_camvid.py to vary."""
    method: MethodName = "cowmix"
    """Method to train; the parameter must have an effect on it."""
    baseline: bool = False
    """Train supervised and full, too, and draw them as lines."""
    out: Path = Path("runs/sweep")
    """Folder for PARAMETER.json, PARAMETER.png and the runs: PARAMETER/VALUE/SUBSET, supervised/SUBSET, full/SUBSET."""


def value_arguments(parameter: str, value: str) -> tuple[str, ...]:
    """Return a value as arguments of train_camvid.py; sigma and proportion need both ends of a range."""
    if parameter not in ("sigma", "proportion"):
        return f"--{parameter}", value
    low, _, high = value.partition("-")
    return f"--{parameter}", low, high or low


def table(content: Mapping[str, Any]) -> str:
    """Lay out the scores of a PARAMETER.json as a Markdown table, a column for each value and each baseline."""
    columns = content["test"] | content["baseline"]
    lines = [[content["parameter"], *columns], ["mIoU", *(str(Summary(**score)) for score in columns.values())]]
    for name, means in content["classes"].items():
        lines.append([name, *(f"{means[column]:.1f}" if column in means else "" for column in columns)])
    return runner.markdown(lines)


def means_of_classes(groups: Mapping[str, Sequence[Job]]) -> dict[str, dict[str, float]]:
    """Return the mean IoU of each class in percent, by the class and by the name of a group of finished jobs."""
    found = {name: runner.gather_classes(group) for name, group in groups.items()}
    classes = dict.fromkeys(class_name for scores in found.values() for class_name in scores)
    return {
        class_name: {name: scores[class_name].mean for name, scores in found.items() if class_name in scores}
        for class_name in classes
    }


def report(
    options: Options,
    values: Mapping[str, Sequence[Job]],
    baseline: Mapping[str, Sequence[Job]],
    origin: Mapping[str, Any],
) -> None:
    """Print the scores of finished jobs, and write them as JSON and as a plot."""
    scores = {value: runner.gather(jobs) for value, jobs in values.items()}
    base = {name: runner.gather(jobs) for name, jobs in baseline.items()}
    content = dict(origin) | {
        "parameter": options.parameter,
        "method": options.method,
        "test": {value: score._asdict() for value, score in scores.items()},
        "baseline": {name: score._asdict() for name, score in base.items()},
        "classes": means_of_classes({**values, **baseline}),
    }
    (options.out / f"{options.parameter}.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    title = f"{origin['dataset']}, {origin['tested_on']}, {options.method}; number of subsets: {options.subsets}"
    save_sweep(options.out / f"{options.parameter}.png", title, LABELS[options.parameter], scores, base)
    print(f"{title}; IoU in percent\n\n{table(content)}")
    print(f"Written: {options.parameter}.json and {options.parameter}.png in {options.out}.")


def main(options: Options, passed: Sequence[str], command: Sequence[str] = runner.TRAINER) -> None:
    """Train what is not trained yet by `command` with the arguments `passed`, and report."""
    jobs = {
        value: runner.subset_jobs(
            options.out / options.parameter / value,
            options.method,
            options.subsets,
            passed,
            value_arguments(options.parameter, value),
        )
        for value in VALUES[options.parameter]
    }
    baseline = {
        name: runner.subset_jobs(options.out / name, name, options.subsets, passed)
        for name in (("supervised", "full") if options.baseline else ())
    }
    every = [job for group in (*jobs.values(), *baseline.values()) for job in group]
    with locked(options.out):
        runner.run(every, options.at_once, command)
    report(options, jobs, baseline, runner.provenance(every, passed))


if __name__ == "__main__":
    runner.start(main, Options, __doc__)
