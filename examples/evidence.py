"""The trainings behind docs/results: studies of what CowMix gains, and when.

pip install ".[examples]"
python examples/evidence.py --study scenes-iterations --at-once 2
python examples/evidence.py --study camvid-iterations --at-once 2 -- --data DIR
python examples/evidence.py                                      trains nothing: the tables of all studies
python examples/evidence.py --help

After -- may follow --data and --workers, for train_camvid.py. Repeat an interrupted command to continue. After each
training the script writes STUDY.json, the scores of all that are finished; at the end it prints them as the tables of
docs/results, and draws STUDY.png, learning curves. `--only-tables` trains nothing.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from segmentation.campaigns import runner
from segmentation.campaigns.plots import save_progress
from segmentation.campaigns.records import (
    between_studies,
    compares,
    overview,
    read,
    select,
    table_of_classes,
    tables,
    update,
)
from segmentation.campaigns.runner import CampaignError
from segmentation.campaigns.studies import STUDIES, StudyName
from segmentation.methods import MethodName
from segmentation.storage import locked

PASSED = ("--data", "--workers")  # where CamVid lies, and how it is read: they make no other study


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a study; options of the trainings follow --."""

    study: StudyName | None = None
    """What to train; see segmentation/campaigns/studies.py."""
    at_once: int = 1
    """Trainings to run at the same time, on shared cores or a shared GPU."""
    seeds: int | None = None
    """Train only so many of the study's seeds."""
    methods: tuple[MethodName, ...] = ()
    """Train only these of the study's methods."""
    variants: tuple[str, ...] = ()
    """Train only these of the study's variants; for their names see segmentation/campaigns/studies.py."""
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
        if not self.trains and (self.methods or self.variants or self.seeds is not None):
            raise CampaignError("--methods, --variants and --seeds choose what is trained, but nothing is.")
        study = STUDIES[self.study] if self.study else None
        for given, known in ((self.methods, study.methods), (self.variants, study.variants)) if study else ():
            if unknown := sorted({*given} - {*known}):
                raise CampaignError(f"{self.study} has no {'; '.join(unknown)}. It has: {'; '.join(known)}.")

    @property
    def trains(self) -> bool:
        """Whether anything is trained."""
        return self.study is not None and not self.only_tables


def show(name: StudyName, results: Path) -> None:
    """Print a study's tables, of all scored images, of parts of them and of each class; draw the learning curves."""
    study, records = STUDIES[name], read(results / f"{name}.json")
    if not records:
        raise CampaignError(f"{results} holds no trainings of {name}.")
    shown = tables(study, records)
    for variant in study.variants:
        if compares(study) and any(one["variant"] == variant for one in records):
            shown[f"{variant}, classes"] = table_of_classes(study, records, variant)
    print(study.question, *(f"{part}:\n\n{table}" for part, table in shown.items()), sep="\n\n")
    curves: defaultdict[str, dict[str, list[dict[int, float]]]] = defaultdict(dict)
    for method, variant in product(study.methods, study.variants):
        # What is compared with one another shares a panel.
        if study.unaffected:
            panel, line = study.title, study.label(variant, method)
        else:
            panel, line = (variant, method) if len(study.methods) > 1 else (method, variant)
        found = select(study, records, variant, method)
        curves[panel][line] = [{int(step): score for step, score in one["validation"].items()} for one in found]
    save_progress(results / f"{name}.png", study.question, curves)


def train(name: StudyName, options: Options, passed: Sequence[str], command: Sequence[str]) -> None:
    """Train what is chosen and not trained yet, and write the scores."""
    given = {word.split("=")[0] for word in passed if word.startswith("--")}
    if unknown := sorted(given - {*PASSED}):
        raise CampaignError(f"{unknown[0]} would make another study: only {' and '.join(PASSED)} may follow the --.")
    needs_data = name.startswith("camvid")
    if needs_data != ("--data" in given):
        what = "is of CamVid: add -- --data DIR" if needs_data else "is of the built-in scenes: leave out --data"
        raise CampaignError(f"{name} {what}.")
    study = STUDIES[name]
    methods, variants = options.methods or study.methods, options.variants or study.variants
    chosen = [
        ((variant, method, seed), job)
        for (variant, method, seed), job in study.trainings(options.out / name, passed)
        if variant in variants and method in methods and seed in study.seeds[: options.seeds]
    ]
    note = partial(update, options.results / f"{name}.json", study, chosen)
    with locked(options.out / name):
        runner.run([job for _, job in chosen], options.at_once, command, note)


def main(options: Options, passed: Sequence[str], command: Sequence[str] = runner.TRAINER) -> None:
    """Train what is not trained yet by `command` with the arguments `passed`, and show what came out."""
    if passed and not options.trains:
        raise CampaignError("nothing is trained: leave out what follows the --.")
    if options.study is None:
        records = {name: read(options.results / f"{name}.json") for name in STUDIES}
        if not any(records.values()):
            raise CampaignError(f"{options.results} holds no trainings of any study.")
        print(overview(records), between_studies(records), sep="\n\n")
        return
    if options.trains:
        train(options.study, options, passed, command)
    show(options.study, options.results)


if __name__ == "__main__":
    runner.start(main, Options, __doc__)
