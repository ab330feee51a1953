"""The blocks of docs/recipes.md for Lightning and for the Trainer of Hugging Face."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cowmask import CowMix
from tests.forked import results
from tests.recipes import (
    CLASSES,
    SIZE,
    Classifier,
    Spy,
    are_mixed,
    assert_labels_fit,
    assert_targets_fit,
    data,
    recipe,
    segmenter,
)

quiet_lightning = pytest.mark.filterwarnings("ignore:::lightning")  # advice on loaders and logging


def lightning_trainer(folder: Path, **options: Any) -> Any:
    lightning = pytest.importorskip("lightning")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(
        accelerator="cpu", max_epochs=2, default_root_dir=folder, enable_checkpointing=False, **quiet, **options
    )


def lightning_classifier() -> Any:
    """Return the class of a LightningModule that a user may have."""
    base: Any = pytest.importorskip("lightning").LightningModule

    class MyModule(base):
        def __init__(self, network: nn.Module | None = None) -> None:
            super().__init__()
            self.network = network or Classifier()
            self.trained_on: list[Any] = []
            self.validated_on: list[Any] = []

        def training_step(self, batch: Any, _: int) -> Tensor:
            self.trained_on.append(batch)
            return F.cross_entropy(self.network(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.validated_on.append(batch)
            F.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.network.parameters(), 0.1)

    return MyModule


def mixed_module(module: Any) -> Any:
    cowmix = CowMix((1, 4), num_classes=CLASSES)
    return recipe("Lightning, in a hook", MyModule=module, cowmix=cowmix, seed=3)["MixedModule"]


@quiet_lightning
def test_lightning_in_a_hook(tmp_path: Path) -> None:
    images, labels, _ = data()
    module = mixed_module(lightning_classifier())()
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    lightning_trainer(tmp_path).fit(module, loader, loader)
    assert len(module.trained_on) == 4
    assert len(module.validated_on) >= 6  # the sanity check among them
    for mixed, shares in module.trained_on:
        assert are_mixed(mixed).any()
        assert_labels_fit(mixed, shares)
    for whole, hard in module.validated_on:
        assert not are_mixed(whole).any()
        assert hard.dtype == torch.int64


def by_lightning(out: Path, *_: Any) -> list[bool]:
    """Return whether processes are in the same random state after training, with the recipe and without its seeds."""
    from lightning import seed_everything
    from lightning.pytorch.plugins.environments import TorchElasticEnvironment

    dataset = TensorDataset(*data(4)[:2])
    module = lightning_classifier()
    mended = mixed_module(module)
    unmended = type("Unmended", (mended,), {"on_train_start": module.on_train_start})
    agree = []
    for make in (mended, unmended):
        seed_everything(3)
        trainer = lightning_trainer(out, devices=2, strategy="ddp", plugins=[TorchElasticEnvironment()])
        trainer.fit(make(), DataLoader(dataset, batch_size=2))
        states: list[Any] = [None, None]
        torch.distributed.all_gather_object(states, torch.get_rng_state())
        agree.append(torch.equal(*states))
    return agree


def test_lightning_in_a_hook_on_two_processes(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    assert results(by_lightning, tmp_path, worlds=(2,)) == [[False, True]]


@quiet_lightning
def test_lightning_in_the_step(tmp_path: Path) -> None:
    combined = pytest.importorskip("lightning.pytorch.utilities").CombinedLoader
    x: Any = data()[0]
    cowmix = Spy(CowMix((1, 4)))
    names = recipe("Lightning, in the step", MyModule=lightning_classifier(), cowmix=cowmix)
    module = names["MeanTeacherModule"](segmenter())
    weights = module.network[0].weight.clone()
    loaders: dict[str, Any] = {"labelled": DataLoader(TensorDataset(x, data()[2]), 4), "unlabelled": DataLoader(x, 4)}
    lightning_trainer(tmp_path).fit(module, combined(loaders))
    assert module.teacher.n_averaged == 4
    assert "teacher.module.0.weight" in module.state_dict()
    assert not torch.equal(module.network[0].weight, weights)
    assert all(are_mixed(mixed).any() for mixed, _ in cowmix.results)


def hugging_face_arguments(folder: Path, **options: Any) -> Any:
    """Return arguments for two epochs with an evaluation after each."""
    return pytest.importorskip("transformers").TrainingArguments(
        output_dir=folder,
        num_train_epochs=2,
        per_device_train_batch_size=2,
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **options,
    )


def hugging_face_data(name: str) -> list[dict[str, Any]]:
    """Return samples with labels for ViT, or with targets."""
    images, labels, targets = data()
    return [{"pixel_values": x, "labels": y} for x, y in zip(images, labels if name == "vit" else targets, strict=True)]


def hugging_face_model(name: str) -> Any:
    """Return a tiny ViT for labels, or a SegFormer for targets, and what it sees in training and in evaluation."""
    transformers = pytest.importorskip("transformers")
    if name == "vit":
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        config = transformers.ViTConfig(image_size=SIZE, patch_size=8, num_labels=CLASSES, **sizes)
        model = transformers.ViTForImageClassification(config)
    else:
        depths = {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [1, 1], "hidden_sizes": [8, 8]}
        rest = {"patch_sizes": [3, 3], "strides": [2, 2], "num_attention_heads": [1, 1], "mlp_ratios": [1, 1]}
        config = transformers.SegformerConfig(**depths, **rest, decoder_hidden_size=8, num_labels=CLASSES)
        model = transformers.SegformerForSemanticSegmentation(config)
    seen: dict[bool, list[Any]] = {True: [], False: []}
    model.register_forward_pre_hook(lambda module, _, inputs: seen[module.training].append(inputs), with_kwargs=True)
    return model, seen


def train_by_hugging_face(make: Any, name: str, arguments: Any) -> Any:
    """Return a Trainer that has trained a tiny model, and what the model has seen."""
    model, seen = hugging_face_model(name)
    dataset = hugging_face_data(name)
    trainer = make(model=model, args=arguments, train_dataset=dataset, eval_dataset=dataset)
    trainer.train()
    return trainer, seen


def hugging_face_in_the_loss(folder: Path) -> Any:
    cowmix, arguments = Spy(CowMix((1, 4), num_classes=CLASSES)), hugging_face_arguments(folder)
    transformers = pytest.importorskip("transformers")
    names = {"Trainer": transformers.Trainer, "cowmix": cowmix, "args": arguments}
    make = recipe("Hugging Face Trainer, in the loss", **names)["MixingTrainer"]
    return *train_by_hugging_face(make, "vit", arguments), cowmix


def test_hugging_face_trainer_in_the_loss(tmp_path: Path) -> None:
    trainer, seen, cowmix = hugging_face_in_the_loss(tmp_path)
    model = trainer.model
    assert len(seen[True]) == len(cowmix.results) == 8
    for inputs, (mixed, labels) in zip(seen[True], cowmix.results, strict=True):
        assert inputs["pixel_values"] is mixed
        assert are_mixed(mixed).any()
        assert_labels_fit(mixed, labels)
    assert len(seen[False]) == 2
    assert all(not are_mixed(inputs["pixel_values"]).any() for inputs in seen[False])
    batch = {"pixel_values": data()[0], "labels": data()[1]}
    model.train()
    loss, outputs = trainer.compute_loss(model, dict(batch), return_outputs=True)
    assert torch.equal(loss, F.cross_entropy(outputs.logits, cowmix.results[-1][1]))
    # Of two accumulated batches, each counts as a half.
    trainer.current_gradient_accumulation_steps = 2
    loss = trainer.training_step(model, dict(batch), num_items_in_batch=torch.tensor(16))
    mixed, labels = cowmix.results[-1]
    assert torch.allclose(loss, F.cross_entropy(model(pixel_values=mixed).logits, labels) / 2)
    # What the recipe warns of, in a model that has seen no labels.
    model.config.problem_type = None
    model(pixel_values=batch["pixel_values"], labels=cowmix.results[-1][1])
    assert model.config.problem_type == "multi_label_classification"


def by_hugging_face(out: Path, *_: Any) -> bool:
    """Return whether two processes mix by the same masks, judged by the first batch."""
    _, _, cowmix = hugging_face_in_the_loss(out)
    outlines: list[Any] = [None, None]
    pixels = cowmix.results[0][0].flatten(2)
    torch.distributed.all_gather_object(outlines, pixels == pixels[..., :1])  # each process has other images
    return torch.equal(*outlines)


def test_hugging_face_trainer_in_the_loss_on_two_processes(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    assert results(by_hugging_face, tmp_path, worlds=(2,)) == [False]


@pytest.mark.parametrize("workers", [0, 2])
def test_hugging_face_trainer_in_the_collator(tmp_path: Path, workers: int) -> None:
    transformers = pytest.importorskip("transformers")
    names = {"Trainer": transformers.Trainer, "cowmix": CowMix((1, 4))}
    make = recipe("Hugging Face Trainer, in the collator", **names)["MixingTrainer"]
    _, seen = train_by_hugging_face(make, "segformer", hugging_face_arguments(tmp_path, dataloader_num_workers=workers))
    assert (len(seen[True]), len(seen[False])) == (8, 2)
    for inputs in seen[True]:
        assert are_mixed(inputs["pixel_values"]).any()
        assert_targets_fit(inputs["pixel_values"], inputs["labels"])
    assert all(not are_mixed(inputs["pixel_values"]).any() for inputs in seen[False])


@pytest.mark.parametrize(("workers", "missed"), [(0, 2), (2, 4)])
def test_a_collator_that_asks_for_the_mode_misses_batches(tmp_path: Path, workers: int, missed: int) -> None:
    """After an evaluation, the model is in eval() until its first step, and workers stay so: of 8 batches."""
    transformers = pytest.importorskip("transformers")

    def make(model: nn.Module, **options: Any) -> Any:
        def collate(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
            batch: dict[str, Tensor] = transformers.default_data_collator(samples)
            if model.training:
                batch["pixel_values"], batch["labels"] = CowMix((1, 4))(batch["pixel_values"], batch["labels"])
            return batch

        return transformers.Trainer(model=model, data_collator=collate, **options)

    arguments = hugging_face_arguments(tmp_path, dataloader_num_workers=workers)
    seen = train_by_hugging_face(make, "segformer", arguments)[1]
    assert sum(not are_mixed(inputs["pixel_values"]).any() for inputs in seen[True]) == missed
