"""examples/segmentation/presets.py: the options that choose the defaults of others."""

from dataclasses import replace
from pathlib import Path

import pytest

from segmentation.config import Config, ConfigError, parse
from segmentation.presets import (
    CAMVID,
    CAMVID_PAPER,
    CITYSCAPES,
    FOLDER,
    PASCAL_VOC,
    camvid,
    cityscapes,
    folder,
    pascal_voc,
)


def test_data_changes_the_defaults_of_what_is_not_given() -> None:
    assert parse(camvid, []) == Config()
    config = parse(camvid, ["--data", "somewhere", "--seed", "3", "--size", "180", "240"])
    assert config == replace(CAMVID, data=(Path("somewhere"),), seed=3, size=(180, 240))
    assert config.mask_sigma == (2, 8)  # the paper's 4-16 is at 480x360
    for recipe, weights in (("default", "none"), ("paper", "imagenet")):
        config = parse(camvid, ["--data", "somewhere", "--network", "deeplab2", "--recipe", recipe])
        assert (config.encoder, config.encoder_weights) == ("resnet101", weights)
    assert parse(camvid, ["--network", "deeplab2"]).encoder_weights == "none"


def test_the_papers_recipe_for_camvid() -> None:
    with pytest.raises(ConfigError, match="recipe paper needs --data"):
        parse(camvid, ["--recipe", "paper"])
    with pytest.raises(ConfigError, match="recipe hung is for"):
        parse(camvid, ["--recipe", "hung", "--data", "somewhere"])
    config = parse(camvid, ["--recipe", "paper", "--data", "somewhere"])
    assert config == replace(CAMVID_PAPER, data=(Path("somewhere"),))
    assert (config.batch_size, config.learning_rate, config.encoder) == (1, 1e-4, "resnet50")
    assert config.iterations_of("cowmix") == 110_100
    assert config.iterations_of("std_aug") == 18_350
    assert replace(config, iterations=7).iterations_of("cowout") == 7


def test_cityscapes_is_the_papers_unless_told_otherwise() -> None:
    config = parse(cityscapes, ["--data", "a.zip", "b.zip"])
    assert config == replace(CITYSCAPES, data=(Path("a.zip"), Path("b.zip")))
    assert (config.size, config.iterations, config.batch_size, config.learning_rate) == ((512, 1024), 100_000, 1, 1e-4)
    assert config.mask_sigma == (8, 32)
    assert config.iterations_of("std_aug") == config.iterations_of("cowmix") == 100_000
    deep = parse(cityscapes, ["--network", "deeplab2", "--seed", "1"])
    assert (deep.encoder, deep.batch_size, deep.learning_rate, deep.seed) == ("resnet101", 2, 3e-5, 1)
    assert parse(cityscapes, ["--network", "deeplab2", "--encoder", "resnet50"]).encoder == "resnet50"


def test_pascal_voc_is_the_papers_unless_told_otherwise() -> None:
    for network, rate in (("unet", 1e-4), ("deeplab2", 3e-5)):
        config = parse(pascal_voc, ["--network", network])
        assert (config.size, config.batch_size, config.learning_rate) == ((321, 321), 10, rate)
        assert config.scale == PASCAL_VOC.scale
        assert config.mask_sigma == (8, 32)


def test_own_pictures_have_camvids_defaults_and_the_scenes_encoder() -> None:
    config = parse(folder, ["--images", "photos", "--val", "a", "b", "--method", "ict"])
    assert config == replace(FOLDER, images=Path("photos"), val=("a", "b"), method=("ict",))
    assert (config.encoder, config.encoder_weights) == (Config.encoder, "lite0")
    assert config.sigma == (8, 32)
    own = {"method", "encoder", "encoder_weights", "labelled", "sigma", "out"}
    differing = {name for name, value in vars(CAMVID).items() if vars(FOLDER)[name] != value}
    assert differing <= own
    deep = parse(folder, ["--network", "deeplab2"])
    assert (deep.encoder, deep.encoder_weights) == ("resnet101", "none")


def test_the_recipe_of_hung_et_al() -> None:
    for presets, iterations in ((cityscapes, 40_000), (pascal_voc, 20_000)):
        config = parse(presets, ["--network", "deeplab2", "--recipe", "hung"])
        assert (config.optimizer, config.schedule) == ("sgd", "poly")
        assert config.learning_rate * config.encoder_rate == 2.5e-4  # 2.5e-3 outside of the encoder
        assert (config.recipe, config.method) == ("hung", ("supervised", "adversarial", "full"))
        assert config.iterations == iterations
        assert config.adversarial_start * iterations == 5_000
