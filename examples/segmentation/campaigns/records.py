"""What the trainings of a study scored: a line of JSON each, and tables in Markdown."""

import csv
import json
import math
import shlex
import statistics
from collections.abc import Iterable, Mapping, Set
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import t as student_t

from segmentation.campaigns.runner import CampaignError, Job, markdown, summarise
from segmentation.campaigns.studies import (
    BETWEEN_STUDIES,
    STUDIES,
    TRIPLE,
    VALIDATION,
    Cell,
    Study,
    StudyName,
    validated_after,
)
from segmentation.storage import write_whole

Records = list[dict[str, Any]]  # a training each: variant, method, seed and what it scored


class Difference(NamedTuple):
    """How much better one method is than another with the same seeds, in points of mIoU."""

    mean: float
    error: float | None  # standard error of the mean; None for one seed
    n: int  # seeds

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% confidence interval by Student's t distribution; None for one seed."""
        return None if self.error is None else student_t.interval(0.95, self.n - 1, self.mean, self.error)

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


def update(path: Path, study: Study, trainings: Iterable[tuple[tuple[str, str, int], Job]]) -> None:
    """Add the records of finished trainings to the file of their study; other records in it stay.

    Raises:
        CampaignError: If the file holds trainings of another study, or of this one before its arguments were changed.
    """
    arguments = shlex.join(study.common)
    variants = {name: shlex.join(words) for name, words in study.variants.items()}
    known = {(one["variant"], one["method"], one["seed"]): one for one in read(path)}
    keys = [(variant, method, seed) for seed, variant, method in product(study.seeds, study.variants, study.methods)]
    before: dict[str, Any] = json.loads(path.read_text()) if known else {"arguments": arguments, "variants": {}}
    is_as_before = arguments == before["arguments"] and before["variants"].items() <= variants.items()
    if not (is_as_before and known.keys() <= {*keys}):
        raise CampaignError(f"{path} holds trainings with other arguments than this study's: take another --results.")
    known |= {key: found for key, job in trainings if (found := record(*key, job))}
    lines = ",\n".join(json.dumps(known[key]) for key in keys if key in known)
    text = json.dumps(
        {"question": study.question, "arguments": arguments, "variants": variants, "trainings": []}, indent=1
    )
    write_whole(path, text.replace('"trainings": []', f'"trainings": [\n{lines}\n]') + "\n")


def read(path: Path) -> Records:
    """Return the records of a study's file; none if there is no file."""
    records: Records = json.loads(path.read_text())["trainings"] if path.exists() else []
    return records


def select(study: Study, records: Records, variant: str, method: str) -> Records:
    """Return the records of one method that are shown in one variant."""
    trained_in = study.trained_in(variant, method)
    return [one for one in records if (one["variant"], one["method"]) == (trained_in, method)]


def scores_of(study: Study, records: Records, variant: str, method: str, part: str | None = None) -> dict[int, float]:
    """Return the scores by seed.

    Args:
        study: The study.
        records: Its records.
        variant: Name of a variant.
        method: Name of a method.
        part: None for the mIoU of all scored images; a group's name for that of its images, which earlier records lack;
            a class for its IoU; VALIDATION; or the name that `validated_after` gives.
    """
    found = select(study, records, variant, method)
    scores = {one["seed"]: one["miou"] if part is None else _parts(one).get(part) for one in found}
    return {seed: score for seed, score in scores.items() if score is not None}


def _parts(record: Mapping[str, Any]) -> dict[str, float | None]:
    steps = {validated_after(int(step)): score for step, score in record["validation"].items()}
    last = next(reversed(steps.values()), None)
    return {VALIDATION: last, **steps, **record.get("groups", {}), **record["iou"]}


def difference(better: dict[int, float], worse: dict[int, float]) -> Difference | None:
    """Return the mean difference over the seeds that both have; None if there are none."""
    return _mean_difference(_less(better, worse))


def contrast(pairs: Iterable[tuple[Study, Records, tuple[Cell, Cell]]]) -> Difference | None:
    """Return a contrast over the seeds that all its cells have; None if there are none.

    Args:
        pairs: Its pairs of cells, each with the study that they are of and the records of that study.
    """
    by_pair = (_less(*(scores_of(study, records, *cell) for cell in pair)) for study, records, pair in pairs)
    return _mean_difference(reduce(_less, by_pair))


def _less(better: dict[int, float], worse: dict[int, float]) -> dict[int, float]:
    return {seed: better[seed] - worse[seed] for seed in sorted(better.keys() & worse.keys())}


def _mean_difference(by_seed: dict[int, float]) -> Difference | None:
    if not by_seed:
        return None
    error = statistics.stdev(by_seed.values()) / math.sqrt(len(by_seed)) if len(by_seed) > 1 else None
    return Difference(statistics.fmean(by_seed.values()), error, len(by_seed))


def table(study: Study, records: Records, part: str | None = None) -> str:
    """Lay out scores and gains as Markdown, of all test images or of one part (see `scores_of`).

    Where every variant has its own supervised training, each variant has a row, and a gain is over the training beside
    it. Else each method in each variant has a row, and a gain is over supervised training or, without it, over the
    first row. Gains over supervised training come with their share of the gap to full.
    """
    by_variant = compares(study) and not study.unaffected
    return _by_variant(study, records, part) if by_variant else _by_training(study, records, part)


def _by_variant(study: Study, records: Records, part: str | None) -> str:
    gaining = [method for method in study.methods if method not in ("supervised", "full")]
    n_cells = 1 + ("full" in study.methods)  # a gain, and its share of the gap
    titles = [title for method in gaining for title in (f"{method} - supervised", "of the gap")[:n_cells]]
    lines = [["", *study.methods, *titles]]
    for variant in study.variants:
        scores = {method: scores_of(study, records, variant, method, part) for method in study.methods}
        cells = [str(summarise([*one.values()])) if one else "" for one in scores.values()]
        for method in gaining:
            cells += _gained(scores[method], scores["supervised"], scores.get("full", {}))[:n_cells]
        if any(cells):
            lines.append([variant, *cells])
    return markdown(lines)


def _by_training(study: Study, records: Records, part: str | None) -> str:
    first, n_cells = next(iter(study.variants)), 1 + (compares(study) and "full" in study.methods)
    reference = "supervised" if compares(study) else study.methods[0]
    base, full = (scores_of(study, records, first, method, part) for method in (reference, "full"))
    lines = [["", "mIoU", *(f"- {study.label(first, reference)}", "of the gap")[:n_cells]]]
    for method, variant in product(study.methods, study.variants):
        scores = scores_of(study, records, variant, method, part)
        if scores and study.trained_in(variant, method) == variant:
            gained = _gained(scores, base, full if method != "full" else {})
            cells = gained if (variant, method) != (first, reference) else ("", "")
            lines.append([study.label(variant, method), str(summarise([*scores.values()])), *cells[:n_cells]])
    return markdown(lines)


def tables(study: Study, records: Records) -> dict[str, str]:
    """Return a study's tables by what they are of.

    They are of all images, of the validation split and each of several groups, and of the study's contrasts.
    """
    groups = sorted({group for one in records for group in one.get("groups", ())})
    parts = [VALIDATION, *groups] if len(groups) > 1 else []
    made = {"all images": table(study, records)} | {part: table(study, records, part) for part in parts}
    contrasts = {name: contrast((study, records, pair) for pair in pairs) for name, pairs in study.contrasts.items()}
    differences = _table_of_contrasts(contrasts)
    return made | ({"differences": differences} if differences else {})


def table_of_classes(study: Study, records: Records, variant: str) -> str:
    """Lay out the mean IoU of each class as Markdown, and what CowMix gains over supervised training."""
    lines = [["", "supervised", "CowMix", "all labels", "CowMix - supervised", "of the gap"]]
    for name in records[0]["iou"]:
        scores = [scores_of(study, records, variant, method, name) for method in TRIPLE]
        lines.append([name, *_compared(*scores)])
    return markdown(lines)


def _table_of_contrasts(contrasts: Mapping[str, Difference | None]) -> str:
    """Lay out contrasts that are known with their 95% intervals as Markdown; return "" if none is."""
    lines = [["", "difference", "95% interval"]]
    for name, found in contrasts.items():
        if found is not None:
            interval = "" if found.interval is None else "{:.1f} to {:.1f}".format(*found.interval)
            lines.append([name, str(found), interval])
    return markdown(lines) if len(lines) > 1 else ""


def overview(records: Mapping[StudyName, Records]) -> str:
    """Lay out what CowMix gains in every study that compares it with supervised training, by most seeds first.

    Variants that see the scored images are left out: they look for causes, and score no method.
    """
    header = ["", "supervised", "CowMix", "all labels", "CowMix - supervised", "of the gap"]
    lines = []
    for name, study in STUDIES.items():
        for variant, words in study.variants.items():
            if not compares(study) or "--transductive" in words:
                continue
            scores = [scores_of(study, records[name], variant, method) for method in TRIPLE]
            if gained := difference(scores[1], scores[0]):
                lines.append((gained.n, [f"{study.title}: {variant}", *_compared(*scores)]))
    lines.sort(key=lambda line: -line[0])
    return markdown([header, *(cells for _, cells in lines)])


def between_studies(records: Mapping[StudyName, Records]) -> str:
    """Lay out the differences between studies, of those that are trained; empty if none are."""
    return _table_of_contrasts(
        {
            name: contrast((STUDIES[study], records[study], pair) for study, pair in pairs)
            for name, pairs in BETWEEN_STUDIES.items()
        }
    )


def compares(study: Study) -> bool:
    """Return whether a study compares methods with supervised training."""
    return "supervised" in study.methods and len(study.methods) > 1


def _mean(scores: dict[int, float]) -> str:
    return f"{statistics.fmean(scores.values()):.1f}" if scores else ""


def _compared(base: dict[int, float], cowmix: dict[int, float], full: dict[int, float]) -> list[str]:
    """Return the cells of the three means, by the seeds that the first two have, and of the gain."""
    shared = base.keys() & cowmix.keys()
    return [*(_mean(_only(shared, scores)) for scores in (base, cowmix, full)), *_gained(cowmix, base, full)]


def _only(seeds: Set[int], scores: dict[int, float]) -> dict[int, float]:
    """Return the scores of these seeds; none if one of them is missing."""
    return {seed: scores[seed] for seed in seeds} if seeds <= scores.keys() else {}


def _gained(scores: dict[int, float], base: dict[int, float], full: dict[int, float]) -> tuple[str, str]:
    """Return how much better scores are than those of a base, and the share of its gap to full, all by the same seeds.

    What is not known for all these seeds is left empty, and so is the share of a gap that may be none: one below twice
    its standard error.
    """
    gained = difference(scores, base)
    if gained is None:
        return "", ""
    gap = difference(_only(scores.keys() & base.keys(), full), base)
    if gap is None or gap.mean <= 2 * (gap.error or 0):
        return str(gained), ""
    return str(gained), f"{100 * gained.mean / gap.mean:.0f}%"
