"""examples/segmentation: what is not finite any more stops a training, and is written nowhere."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from segmentation.campaigns.runner import CampaignError, Job, gather
from segmentation.config import Config, ConfigError
from segmentation.data.datasets import VOID, Dataset
from segmentation.data.street import load_street
from segmentation.finite import Watch
from segmentation.run import main
from segmentation.trainer import Trainer, TrainingError
from tests.forked import results, run_script

SIZE = (32, 64)
TINY = Config(
    method=("cowmix",),
    size=SIZE,
    encoder="tu-lcnet_050",
    encoder_weights="none",
    decoder_channels=(16, 16, 8, 8, 8),
    batch_size=2,
    labelled=4,
    iterations=9,
    checkpoint_every=2,
    evaluate_every=5,
)
EXAMPLES = Path(__file__).parent.parent / "examples"


def street() -> Dataset:
    return load_street(SIZE, n_train=8, n_val=2, n_test=3)


Damage = Callable[[Trainer, dict[str, Tensor]], object]  # gets a training and the losses of an iteration


def in_iteration(trainer: Trainer, number: int, damage: Damage) -> Trainer:
    """Let something happen to a training in the middle of an iteration, from 1."""
    losses = trainer._losses

    def damaged(*arguments: Any) -> dict[str, Tensor]:
        found = losses(*arguments)
        if trainer.progress.iteration == number - 1:
            damage(trainer, found)
        return found

    trainer._losses = damaged  # type: ignore[assignment, method-assign]
    return trainer


def spoil_loss(_: Trainer, losses: dict[str, Tensor]) -> None:
    losses["loss/supervised"] = losses["loss/supervised"] * torch.nan


def spoil_gradient(trainer: Trainer, _: dict[str, Tensor]) -> None:
    """Make one gradient infinite, once."""
    coming = iter([torch.inf])
    next(trainer.student.parameters()).register_hook(lambda gradient: gradient + next(coming, 0.0))


@pytest.mark.parametrize(
    ("damage", "number"), [(spoil_loss, 4), (spoil_loss, 7), (spoil_gradient, 4), (spoil_gradient, 9)]
)
def test_the_training_stops_at_once(damage: Damage, number: int, tmp_path: Path) -> None:
    trainer = in_iteration(Trainer(replace(TINY, out=tmp_path), street(), "cowmix"), number, damage)
    kept = tmp_path / "cowmix" / f"checkpoint-{(number - 1) // 2 * 2:08d}"
    with pytest.raises(TrainingError) as stopped:
        trainer.fit()
    said = str(stopped.value)
    assert said.startswith(f"loss or weights of cowmix are not finite in iteration {number}: ")
    assert "--learning-rate than 0.001;" in said
    assert said.endswith(f"; {kept} is from before.")
    assert trainer.progress.iteration == number
    assert max((tmp_path / "cowmix").glob("checkpoint-*")) == kept
    assert "nan" not in (tmp_path / "cowmix" / "log.csv").read_text()
    assert not (tmp_path / "metrics.json").exists()


def test_what_the_gradient_scaler_skips_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaler = GradScaler("cpu", init_scale=1024.0)
    # accelerate makes a scaler on a GPU only
    monkeypatch.setattr(Accelerator, "scaler", property(lambda _: scaler, lambda *_: None), raising=False)
    trainer = in_iteration(Trainer(replace(TINY, out=tmp_path), street(), "supervised"), 4, spoil_gradient)
    trainer.fit()
    assert scaler.get_scale() == 512
    assert trainer.progress.iteration == 9
    assert all(parameter.isfinite().all() for parameter in trainer.student.parameters())


def test_the_device_is_read_where_it_is_waited_for_anyway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, counts = Watch.count, list[int]()
    trainer = Trainer(
        replace(TINY, iterations=22, checkpoint_every=4, evaluate_every=9, out=tmp_path), street(), "full"
    )

    def counted(watch: Watch) -> int:
        counts.append(trainer.progress.iteration)
        return count(watch)

    monkeypatch.setattr(Watch, "count", counted)
    monkeypatch.setattr(Watch, "waits", property(lambda _: True, lambda *_: None), raising=False)
    trainer.fit()
    assert counts == [4, 8, 9, 10, 12, 16, 18, 20, 22]


def test_only_the_first_iterations_count() -> None:
    watch = Watch(Accelerator(cpu=True), 5)
    for losses in ([0.5, 1e30], [torch.inf, 0.0], [1.0, 1.0], [torch.nan, 1.0]):
        watch.note(torch.tensor(loss) for loss in losses)
    assert watch.count() == 6


def test_what_stays_on_the_cpu_is_noted_on_the_device() -> None:
    """The meta device stands for a GPU: like one, it does not stack its tensors with those of the CPU."""
    watch = Watch(Accelerator(cpu=True), 0)
    watch._sound, watch._count = watch._sound.to("meta"), watch._count.to("meta")
    watch.note([torch.ones(2, device="meta"), torch.zeros((), dtype=torch.int64)])
    assert watch._count.device.type == "meta"


def stop(out: Path, rank: int, world: int) -> list[str]:  # noqa: ARG001
    """Spoil the loss of the second process, and return what both processes say."""
    trainer = Trainer(replace(TINY, out=out), street(), "cowmix")
    if rank == 1:
        in_iteration(trainer, 3, spoil_loss)
    with pytest.raises((TrainingError, SystemExit)) as stopped:  # the first says why
        trainer.fit()
    assert trainer.progress.iteration == 3
    return gather_object([str(stopped.value)])


def test_all_processes_stop_together(tmp_path: Path) -> None:
    ((first, second),) = results(stop, tmp_path, worlds=(2,))
    assert "in iteration 3:" in first
    assert second == "1"


def test_the_command_says_so_in_one_sentence(tmp_path: Path) -> None:
    options = "--method supervised --size 32 64 --encoder tu-lcnet_050 --encoder-weights none --batch-size 2"
    done = run_script(EXAMPLES / "train_camvid.py", *options.split(), "--learning-rate", "1e9", "--out", tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("train_camvid: loss or weights of supervised are not finite in iteration ")
    assert said.endswith("there is no checkpoint from before.")


@pytest.mark.parametrize("option", ["learning_rate", "consistency_weight", "sigma", "scale"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e38])
def test_options_are_finite(option: str, value: float) -> None:
    given: Any = (1.0, value) if option in ("sigma", "scale") else value
    with pytest.raises(ConfigError, match=f"^--{option.replace('_', '-')} must"):
        replace(TINY, **{option: given})


def test_scores_that_are_not_defined_are_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = street()
    void = torch.full(SIZE, VOID, dtype=torch.uint8)
    monkeypatch.setattr(data.test, "label", lambda *_: void)
    main(replace(TINY, method=("supervised",), iterations=1, out=tmp_path), lambda _: (data, []))

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    report = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    scores = report["test"]["supervised"]
    assert scores["miou"] is scores["student_miou"] is None
    assert set(scores["iou"].values()) == {None}
    with pytest.raises(CampaignError, match="no pixel of its test set has a label"):
        gather([Job(tmp_path, "supervised", ())])
