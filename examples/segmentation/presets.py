"""The trainers' defaults, by data set, network and recipe."""

from dataclasses import replace
from pathlib import Path

from segmentation.config import Config, ConfigError, FolderConfig, Options

CAMVID = Config(
    encoder="resnet50",
    encoder_weights="none",
    decoder_channels=(256, 128, 64, 32, 16),
    size=(360, 480),
    scale=(1.0, 1.0),
    labelled=30,
    sigma=(4.0, 16.0),
    iterations=10_000,
    batch_size=4,
    learning_rate=1e-3,
    ema=0.99,
    evaluate_every=500,
    out=Path("runs/camvid"),
)
CAMVID_PAPER = replace(
    CAMVID,
    recipe="paper",
    encoder_weights="imagenet",
    iterations=300 * 367,
    batch_size=1,
    learning_rate=1e-4,
    schedule="constant",
    evaluate_every=3670,
    out=Path("runs/camvid-paper"),
    # Table 1 trains for 300 epochs of 367 images, and for fewer by these methods (its footnotes; C.3.3).
    stop_after={"std_aug": 50 * 367, "cutmix": 100 * 367, "cutmix_fixed": 100 * 367, "cowout": 100 * 367},
)
CITYSCAPES = replace(
    CAMVID_PAPER,
    size=(512, 1024),
    labelled=100,
    iterations=100_000,
    sigma=(8.0, 32.0),
    paper_side=512,
    stop_after={},
    workers=4,
    evaluate_every=10_000,
    checkpoint_every=2_000,
    out=Path("runs/cityscapes"),
)
PASCAL_VOC = replace(
    CITYSCAPES,
    size=(321, 321),
    scale=(0.5, 1.6),  # Hung et al.
    batch_size=10,
    iterations=40_000,  # of the authors' later code: the paper gives no number
    paper_side=321,
    evaluate_every=4_000,
    out=Path("runs/pascal-voc"),
)


FOLDER = FolderConfig(
    **vars(CAMVID)
    | {
        "method": ("supervised", "cowmix"),  # full needs a label map of every image
        "encoder": Config.encoder,
        "encoder_weights": Config.encoder_weights,
        "labelled": None,
        "sigma": (8.0, 32.0),
        "out": Path("runs/folder"),
    }
)


def camvid(chosen: Config) -> Config:
    """Return the defaults of train_camvid.py."""
    if chosen.recipe != "default" and not chosen.data:
        raise ConfigError(f"--recipe {chosen.recipe} needs --data.")
    if chosen.recipe == "hung":
        raise ConfigError("--recipe hung is for Cityscapes and Pascal VOC.")
    return _on_resnet({"default": CAMVID if chosen.data else Config(), "paper": CAMVID_PAPER}[chosen.recipe], chosen)


def folder(chosen: Config) -> FolderConfig:
    """Return the defaults of train_folder.py: those of CamVid with the scenes' encoder."""
    return _on_resnet(FOLDER, chosen)


def _on_resnet(config: Options, chosen: Config) -> Options:
    """Return defaults, for DeepLab v2 those of its encoder."""
    if chosen.network == "unet":
        return config
    weights = "none" if config.encoder_weights == "lite0" else config.encoder_weights
    return replace(config, encoder="resnet101", encoder_weights=weights)


def cityscapes(chosen: Config) -> Config:
    """Return the defaults of train_cityscapes.py: the paper's, or those of Hung et al. (2018)."""
    config = replace(CITYSCAPES, batch_size=2) if chosen.network == "deeplab2" else CITYSCAPES
    if chosen.recipe == "hung":
        config = replace(_hung(config), batch_size=2, iterations=40_000, adversarial_start=5_000 / 40_000)
    return _for_network(config, chosen)


def pascal_voc(chosen: Config) -> Config:
    """Return the defaults of train_pascal_voc.py: the paper's, or those of Hung et al. (2018)."""
    config = replace(_hung(PASCAL_VOC), iterations=20_000) if chosen.recipe == "hung" else PASCAL_VOC
    return _for_network(config, chosen)


def _hung(config: Config) -> Config:
    return replace(
        config,
        method=("supervised", "adversarial", "full"),
        optimizer="sgd",
        learning_rate=2.5e-3,
        encoder_rate=0.1,
        schedule="poly",
        adversarial_start=5_000 / 20_000,
    )


def _for_network(config: Config, chosen: Config) -> Config:
    if chosen.network == "unet":
        return config
    rate = config.learning_rate if chosen.recipe == "hung" else 3e-5  # paper, C.3.2
    return replace(config, encoder="resnet101", learning_rate=rate)
