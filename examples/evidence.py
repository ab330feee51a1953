"""The trainings behind docs/results: studies of what CowMix gains, and when.

pip install ".[examples]"
python examples/evidence.py --study scenes-iterations --at-once 2
python examples/evidence.py --study camvid-iterations --at-once 2 -- --data DIR
python examples/evidence.py --help

Arguments after -- go to train_camvid.py. Repeat an interrupted command to continue. After each training the script
writes STUDY.json, the scores of all that are finished; at the end it prints them as the table of docs/results, and
draws STUDY.png, learning curves. `--only-tables` trains nothing.
"""

import csv
import json
import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from segmentation.campaigns import runner
from segmentation.campaigns.plots import save_progress
from segmentation.campaigns.runner import CampaignError, Job, summarise
from segmentation.campaigns.studies import STUDIES, Study, StudyName
from segmentation.storage import write_whole

Records = list[dict[str, Any]]  # a training each: variant, method, seed and what it scored


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a study; options of the trainings follow --."""

    study: StudyName
    """What to train; see segmentation/campaigns/studies.py."""
    at_once: int = 1
    """Trainings to run at the same time, on shared cores or a shared GPU."""
    seeds: int | None = None
    """Train only so many of the study's seeds."""
    only_tables: bool = False
    """Train nothing: print the table and draw the curves of what is in STUDY.json."""
    out: Path = Path("runs/evidence")
    """Folder of the trainings, STUDY/VARIANT/METHOD/SEED."""
    results: Path = Path("docs/results")
    """Folder of STUDY.json and STUDY.png."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        if self.at_once < 1 or (self.seeds is not None and self.seeds < 1):
            raise CampaignError("--at-once and --seeds must be at least 1.")


class Difference(NamedTuple):
    """How much better one method is than another with the same seeds, in points of mIoU."""

    mean: float
    error: float | None  # standard error of the mean; None for one seed
    n: int  # seeds

    def __str__(self) -> str:
        """Format the difference with its sign and standard error."""
        return f"{self.mean:+.1f}" + ("" if self.error is None else f" ± {self.error:.1f}") + f" ({self.n})"


def record(variant: str, method: str, seed: int, job: Job) -> dict[str, Any] | None:
    """Return what a training scored, in percent; None if it is not finished."""
    report = job.report()
    if report is None:
        return None
    scores = report["test"][method]
    with (job.folder / method / "log.csv").open(newline="") as file:
        logged = [line for line in csv.DictReader(file) if line["name"] == "val/miou_teacher"]
    return {
        "variant": variant,
        "method": method,
        "seed": seed,
        "miou": _percent(scores["miou"]),
        "student": _percent(scores["student_miou"]),
        "iou": {name: _percent(share) for name, share in scores["iou"].items()},
        "groups": {name: _percent(share) for name, share in scores.get("groups", {}).items()},
        "validation": {line["step"]: _percent(float(line["value"])) for line in logged},
        "seconds": report["seconds"][method],
        "torch": report["torch"],
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def gather(path: Path, study: Study, folder: Path, passed: Sequence[str]) -> None:
    """Add the records of finished trainings to the file of the study; those in it whose folders are gone stay."""
    known = {(one["variant"], one["method"], one["seed"]): one for one in read(path)}
    for key, job in study.trainings(folder, passed):
        if found := record(*key, job):
            known[key] = found
    trainings = [json.dumps(known[key]) for key, _ in study.trainings(folder, passed) if key in known]
    content = {
        "question": study.question,
        "arguments": shlex.join(study.common),
        "variants": {name: shlex.join(words) for name, words in study.variants.items()},
        "trainings": [],
    }
    text = json.dumps(content, indent=1)
    write_whole(path, text.replace('"trainings": []', '"trainings": [\n' + ",\n".join(trainings) + "\n]") + "\n")


def read(path: Path) -> Records:
    """Return the records of a study's file; none if there is no file."""
    records: Records = json.loads(path.read_text())["trainings"] if path.exists() else []
    return records


def select(records: Records, variant: str, method: str) -> Records:
    """Return the records of one method in one variant."""
    return [one for one in records if (one["variant"], one["method"]) == (variant, method)]


def scores_of(records: Records, variant: str, method: str) -> dict[int, float]:
    """Return the test mIoU by seed."""
    return {one["seed"]: one["miou"] for one in select(records, variant, method)}


def difference(better: dict[int, float], worse: dict[int, float]) -> Difference | None:
    """Return the mean difference over the seeds that both have; None if there are none."""
    both = [better[seed] - worse[seed] for seed in sorted(better.keys() & worse.keys())]
    if not both:
        return None
    error = statistics.stdev(both) / math.sqrt(len(both)) if len(both) > 1 else None
    return Difference(statistics.fmean(both), error, len(both))


def table(study: Study, records: Records) -> str:
    """Lay out scores and gains as Markdown.

    With supervised training among the methods, a gain is over it, and comes with its share of the gap to full. Else a
    gain is over the first variant.
    """
    first = next(iter(study.variants))
    is_compared = "supervised" in study.methods[:-1]
    gaining = [method for method in study.methods if not is_compared or method not in ("supervised", "full")]
    gains = [f"{method} - {'supervised' if is_compared else first}" for method in gaining]
    has_gap = is_compared and "full" in study.methods
    header = ["", *study.methods]
    for gain in gains:
        header += [gain, "of the gap"] if has_gap else [gain]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for variant in study.variants:
        scores = {method: scores_of(records, variant, method) for method in study.methods}
        if not any(scores.values()):
            continue
        cells = [str(summarise([*one.values()])) if one else "" for one in scores.values()]
        for method in gaining:
            base = scores["supervised"] if is_compared else scores_of(records, first, method)
            gained = difference(scores[method], base) if is_compared or variant != first else None
            cells.append(str(gained or ""))
            if has_gap:
                gap = difference(scores["full"], base)
                cells.append(f"{100 * gained.mean / gap.mean:.0f}%" if gained and gap and gap.mean > 0 else "")
        lines.append([variant, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show(options: Options, study: Study) -> None:
    """Print the table, and draw the learning curves."""
    records = read(options.results / f"{options.study}.json")
    print(study.question, table(study, records), sep="\n\n")
    curves: dict[str, dict[str, list[dict[int, float]]]] = {
        variant: {
            method: [
                {int(step): score for step, score in one["validation"].items()}
                for one in select(records, variant, method)
            ]
            for method in study.methods
        }
        for variant in study.variants
    }
    save_progress(options.results / f"{options.study}.png", study.question, curves)


def main(options: Options, passed: Sequence[str], command: Sequence[str] = runner.TRAINER) -> None:
    """Train what is not trained yet by `command` with the arguments `passed`, and write what came out."""
    study, folder = STUDIES[options.study], options.out / options.study
    if not options.only_tables:
        chosen = study.seeds[: options.seeds]
        jobs = [job for (_, _, seed), job in study.trainings(folder, passed) if seed in chosen]
        note = partial(gather, options.results / f"{options.study}.json", study, folder, passed)
        note()
        runner.run(jobs, options.at_once, command, note)
    show(options, study)


if __name__ == "__main__":
    runner.start(main, Options, __doc__)
