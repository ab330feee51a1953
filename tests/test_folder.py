"""examples/segmentation/data/folder.py and its kin, and train_folder.py: any images, some of them with label maps."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.ExifTags import Base

from segmentation.data.batches import Batches, Crops, Shard, labelled_images
from segmentation.data.camvid import load_camvid
from segmentation.data.datasets import VOID, DataError, Dataset
from segmentation.data.dividing import divide
from segmentation.data.files import read_file
from segmentation.data.folder import FolderOptions, FolderSplit, Memory, load_folder
from segmentation.data.label_maps import TRANSPARENT
from segmentation.data.legends import Legend, find_legend
from segmentation.data.pairing import Pairs, Picture, find_pairs
from segmentation.data.street import CLASSES
from segmentation.presets import FOLDER
from segmentation.saved import load_network
from segmentation.trainer import Trainer
from tests import own_pictures
from tests.forked import run_script
from tests.miniature import make_camvid
from tests.own_pictures import COLOURS, FAULTS, PALETTE, SIZE, ids_of, label_maps, paint, said, save_ids
from tests.pages import blocks
from tests.splits import assert_same

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "own-pictures.md"
MESSAGES = ROOT / "docs" / "own-pictures-messages.md"
TINY: dict[str, Any] = {
    "encoder": "tu-lcnet_050",
    "encoder_weights": "none",
    "decoder_channels": (16, 16, 8, 8, 8),
    "size": SIZE,
    "batch_size": 2,
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a person's folders, and go there."""
    own_pictures.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(**options: Any) -> Dataset:
    given = FolderOptions(**{"images": Path("photos"), "labels": Path("painted")} | options)
    return load_folder(given, SIZE, 0, Path("run"))[0]


def legend(*classes: str, colours: Path | None = None, void: tuple[str, ...] = ()) -> Legend:
    return find_legend(label_maps(Path()), classes, colours, void)


# --- what is wrong, and what is said ---


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_said_of_what_is_wrong(fault: str) -> None:
    """The table in the docs has it all; `python -m tests.own_pictures` prints the table."""
    assert own_pictures.row(fault) in MESSAGES.read_text().splitlines()


def test_what_the_docs_say_is_said() -> None:
    assert f"```\n{own_pictures.example()}\n```" in DOCS.read_text()


def test_what_is_there_and_what_is_done_is_said(here: Path) -> None:
    Image.new("RGB", (200, 40)).save("photos/wide.png")
    Path("photos/IMG_1.HEIC").write_bytes(b"ftypheic")
    save_ids(Path("painted/img_03.png"), np.full(SIZE, 255, np.uint8))
    lines = said(here, "--classes", *CLASSES, "horse").splitlines()
    assert lines[0] == (
        "13 images, 8 of them with a label map, 12 of 64x48 and 1 of 200x40. All are resized to 64x48; the shape of "
        "some changes by a factor of 3.8 (see --size, --fit crop)."
    )
    assert lines[1] == "Left out, by their suffixes: 1 .heic."
    assert lines[2].startswith("7 classes, by share of the labelled pixels: sky ")
    assert ", horse 0.0 %. Void are " in lines[2]
    assert lines[3] == "1 label maps are void alone, as they are trained on: img_03."
    assert lines[4] == "6 images with and 5 without a label map train."
    assert lines[5].startswith("2 labelled images, drawn by --seed 0 and listed in run/val.txt, score during training")
    assert said(here, "--fit", "crop").splitlines()[0].endswith("at random; images are scored in their own sizes.")


# --- images and their label maps ---


def test_pictures_are_found_as_people_keep_them(tmp_path: Path) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = Image.fromarray(upright)
    photos, painted = tmp_path / "photos", tmp_path / "photos" / "painted"
    for folder in (photos / "beach", photos / "town", painted / "beach", photos / ".trash"):
        folder.mkdir(parents=True)
    image.save(photos / "town" / "a.PNG")
    image.convert("RGBA").save(photos / "beach" / "a.png")
    image.convert("L").save(photos / "b.TIF")
    image.convert("P").save(photos / "c.bmp")
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(photos / "d.webp", exif=exif, lossless=True)
    image.save(photos / ".trash" / "e.png")
    (photos / "._a.png").write_bytes(b"no picture")
    ids = np.arange(600, dtype=np.uint8).reshape(20, 30) % 3
    for name in ("beach/a.png", "d.png", "b.tif.png"):
        save_ids(painted / name, ids)
    pairs = find_pairs(photos, painted)
    assert pairs.problems == []
    found = {
        picture.name: picture.label and picture.label.relative_to(painted).as_posix() for picture in pairs.pictures
    }
    assert found == {"b": "b.tif.png", "c": None, "d": "d.png", "beach/a": "beach/a.png", "town/a": None}
    options = FolderOptions(photos, painted, val=("1",))
    data, _ = load_folder(options, (20, 30), 0, tmp_path)
    assert sorted([*data.train.names, *data.val.names]) == sorted(found)
    for split in (data.train, data.val):
        for index, name in enumerate(split.names):
            expected = {"b": image.convert("L").convert("RGB"), "c": image.convert("P").convert("RGB")}.get(name, image)
            assert (split.image(index).permute(1, 2, 0).numpy() == np.array(expected)).all()
            if index not in data.unlabelled or split is data.val:
                assert (split.label(index).numpy() == ids).all()


def test_a_label_map_with_the_name_of_two_images_is_told(tmp_path: Path) -> None:
    for folder in ("photos/one", "photos/two", "painted"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("photos/one/a.png", "photos/two/a.png", "painted/a.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    (problem,) = find_pairs(tmp_path / "photos", tmp_path / "painted").problems
    assert problem.startswith("1 label maps have the name of several images, so put each into a folder named as its")


def test_label_maps_may_have_a_suffix_and_lie_beside_the_images(here: Path) -> None:
    expected = load()
    own_pictures.add_suffix(here)
    Image.new("L", (9, 9)).save("painted/img_00_preview.png")
    assert_same(load(label_suffix="_mask"), expected)
    for path in label_maps(here):
        path.rename(here / "photos" / path.name)
    Path("photos/img_00_preview.png").unlink()
    assert_same(load(label_suffix="_mask", labels=Path("photos")), expected)


@pytest.mark.usefixtures("here")
def test_more_images_are_unlabelled() -> None:
    before = load().train
    names, images = before.names, [before.image(i) for i in range(len(before.names))]
    Path("more").mkdir()
    for path in Path("photos").glob("img_1*"):
        path.rename(Path("more") / path.name)
    data = load(unlabelled=Path("more"))
    assert [Path(name).name for name in data.train.names] == list(names)
    assert data.train.names[-1] == "more/img_11"
    assert len(data.unlabelled) == 4
    assert all(torch.equal(data.train.image(index), image) for index, image in enumerate(images))


# --- classes ---


def test_ids_are_classes_as_named_or_as_found(here: Path) -> None:
    found = legend()
    assert found.classes == tuple(f"class {index}" for index in range(6))
    assert found.meaning == {**{index: index for index in range(6)}, 255: VOID}
    assert legend(*CLASSES).classes == CLASSES
    some = legend("grey=2", "sky=0", "grey=1", "void=5", "tree=3", "car=4")
    assert some.classes == ("grey", "sky", "tree", "car")
    assert some.meaning == {2: 0, 0: 1, 1: 0, 5: VOID, 3: 2, 4: 3, 255: VOID}
    assert legend(void=("5", "255")).classes == found.classes[:5]
    assert legend(void=("5",)).classes == (*found.classes[:5], "class 255")
    assert legend("sky=0", "road=255").meaning == {0: 0, 255: 1}
    (first, *_) = label_maps(here)
    label = legend("sky=0", "road=1", void=("rest",)).read(read_file(first), read_file(Path("photos/img_00.jpg")))
    assert (label.numpy() == np.where(ids_of(first) < 2, ids_of(first), VOID)).all()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"classes": ("a=1", "b=1")}, "gives 1 to a and to b"),
        ({"classes": ("a=one",)}, "expected ids from 0 to 255, got one"),
        ({"classes": ("a=256",)}, "expected ids from 0 to 255, got 256"),
        ({"classes": ("a=#112233", "b=3")}, "expected colours, as #ff8000"),
        ({"classes": ("a", "b"), "void": ("1",)}, "has the value of b"),
        ({"void": ("#000000",)}, "--void: expected ids from 0 to 255, got #000000"),
        ({"classes": ("a", "b"), "colours": Path("x")}, "give one of them"),
        ({"colours": Path("nowhere.txt")}, "nowhere.txt is missing"),
    ],
)
def test_options_that_make_no_sense_are_refused(here: Path, words: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        find_legend(label_maps(here), **{"classes": (), "colours": None, "void": ()} | words)


def test_painted_label_maps_are_those_of_ids(here: Path) -> None:
    expected = load()
    paint(here)
    colours = Path(own_pictures.list_colours(here)[1])
    by_list = load(colours=colours)
    assert_same(by_list, expected)
    assert by_list.classes == CLASSES
    assert by_list.colours[0] == "#4682b4"
    words = tuple(f"{name}=#{bytes(rgb).hex()}" for name, rgb in zip(CLASSES, COLOURS.tolist(), strict=True))
    assert_same(load(classes=words, void=("#000000",)), expected)
    found = load(void=("#000000",))
    assert found.classes == tuple(sorted(f"#{bytes(rgb).hex()}" for rgb in COLOURS.tolist()))
    order = [found.classes.index(f"#{bytes(rgb).hex()}") for rgb in COLOURS.tolist()]
    for index in range(len(found.val.names)):
        label = expected.val.label(index).long()
        assert torch.equal(found.val.label(index).long(), torch.tensor([*order, VOID])[label.clamp(max=6)])


def test_palettes_are_read_by_index_or_by_colour(here: Path) -> None:
    expected = load(classes=CLASSES)
    for path in label_maps(here):
        save_ids(path, ids_of(path), PALETTE)
    by_index = load()
    assert_same(by_index, expected)
    assert by_index.colours[1] == "#804080"
    paint_again = {path: ids_of(path) for path in label_maps(here)}
    for path, ids in paint_again.items():  # each with its own order of colours
        order = np.random.default_rng(len(path.name) + ids.sum()).permutation(6).astype(np.uint8)
        table = np.zeros(256, np.uint8)
        table[:6], table[255] = np.argsort(order), 6
        save_ids(path, table[ids], [*COLOURS[order].ravel().tolist(), 0, 0, 0])
    assert_same(load(colours=Path(own_pictures.list_colours(here)[1])), expected)


def test_what_is_transparent_is_void(here: Path) -> None:
    paint(here)
    for path in label_maps(here):
        with Image.open(path) as picture:
            picture.putalpha(Image.fromarray((np.array(picture).any(2) * 255).astype(np.uint8)))
            picture.save(path)
    assert legend().classes == tuple(sorted(f"#{bytes(rgb).hex()}" for rgb in COLOURS.tolist()))
    assert (load().val.label(0)[:4] == VOID).all()
    with Image.open("painted/img_00.png") as picture:
        picture.putalpha(100)
        picture.save("painted/img_00.png")
    assert TRANSPARENT not in legend().meaning
    assert "painted/img_00.png has pixels that are partly transparent" in said(here)


@pytest.mark.parametrize(
    "text",
    [
        "sky 70 130 180\nroad\t128, 64, 128\n\n",
        "70 130 180 sky\n128 64 128 road",
        "name,r,g,b\nsky,70,130,180\nroad,128,64,128\n",
        "\ufeff# our colours\n#4682B4: sky\nroad = #804080\n",
    ],
)
@pytest.mark.usefixtures("here")
def test_colours_are_listed_as_people_list_them(text: str) -> None:
    Path("list.txt").write_text(text)
    found = legend(colours=Path("list.txt"))
    assert found.meaning == {0x4682B4: 0, 0x804080: 1}
    assert found.classes == ("sky", "road")


@pytest.mark.parametrize("text", ["", "sky 70 130", "sky 70 130 280", "70 130 180", "a #112233\nb #112233"])
@pytest.mark.usefixtures("here")
def test_lists_of_colours_that_make_no_sense_are_refused(text: str) -> None:
    Path("list.txt").write_text(text)
    with pytest.raises(DataError, match=r"list.txt"):
        legend(colours=Path("list.txt"))


# --- who trains, who scores ---


def pictures(labelled: int, bare: int = 3) -> Pairs:
    names = [f"{index:03}" for index in range(labelled + bare)]
    paths = [Path("photos", f"{name}.jpg") for name in names]
    labels = [*paths[:labelled], *[None] * bare]
    return Pairs(list(map(Picture, names, paths, labels)), [])


def unasked(_: Path, __: Path) -> Pairs:
    raise AssertionError("no folders are given")


@pytest.mark.parametrize(("labelled", "held"), [(2, 1), (3, 1), (4, 2), (9, 2), (10, 2), (30, 6), (500, 100)])
def test_a_fifth_scores_by_default(labelled: int, held: int) -> None:
    division = divide(pictures(labelled), {"val": ()}, 0, unasked)
    assert [len(division.held["val"]), len(division.train)] == [held, labelled + 3 - held]
    assert division.drawn == {"val": [picture.name for picture in division.held["val"]]}
    again = divide(pictures(labelled), {"val": ()}, 0, unasked)
    assert division == again
    assert labelled < 10 or division.held != divide(pictures(labelled), {"val": ()}, 1, unasked).held


def test_shares_and_numbers_are_drawn_apart() -> None:
    division = divide(pictures(20), {"val": ("0.25",), "test": ("4",)}, 3, unasked)
    held = [picture.name for some in division.held.values() for picture in some]
    assert [len(some) for some in division.held.values()] == [5, 4]
    assert sorted([*held, *(picture.name for picture in division.train)]) == [f"{index:03}" for index in range(23)]
    for words in (("0",), ("21",), ("1.0",), ("1.5",)):
        with pytest.raises(DataError, match=r"expected a part of them|too few"):
            divide(pictures(20), {"val": words}, 0, unasked)


@pytest.mark.usefixtures("here")
def test_a_drawn_list_can_be_given_again() -> None:
    drawn = load()
    Path("kept.txt").write_text("".join(f"{name}.jpg\n" for name in drawn.lists["val"]))
    assert_same(load(val=("kept.txt",)), drawn)
    assert load(val=("kept.txt",)).lists == {}


def test_folders_that_score(here: Path) -> None:
    """They may lie in the folder of images; what lies there is not trained on."""
    Path("photos/later/images").mkdir(parents=True)
    Path("photos/later/labels").mkdir()
    for name in ("img_06", "img_07"):
        shutil.move(f"photos/{name}.jpg", "photos/later/images")
        shutil.move(f"painted/{name}.png", "photos/later/labels")
    for words in (("photos/later",), ("photos/later/images", "photos/later/labels")):
        data = load(val=words, test=("0.5",))
        assert data.val.names == ("img_06", "img_07")
        assert len(data.test.names) == 3
        assert len(data.train.names) == 7
        assert (data.tested_on, set(data.lists)) == ("test set", {"test"})
    shutil.copy("photos/img_11.jpg", "photos/later/images")
    assert said(here, "--val", "photos/later") == (
        "1 of 3 images for --val have no label map: photos/later/images/img_11.jpg."
    )


def test_no_image_both_trains_and_scores(here: Path) -> None:
    Path("masks").mkdir()
    for name in ("img_00", "img_01"):
        shutil.copy(f"painted/{name}.png", "masks")
    Path("pictures").symlink_to("photos")
    Path("some").mkdir()
    for name in ("img_00", "img_01"):
        Path("some", f"{name}.jpg").symlink_to(here / "photos" / f"{name}.jpg")
    data = load(val=("some", "masks"), unlabelled=Path("pictures"))
    assert data.val.names == ("img_00", "img_01")
    assert not {"img_00", "img_01"} & {Path(name).name for name in data.train.names}
    assert len(data.train.names) == 10


# --- training ---


def test_batches_are_those_of_camvid(tmp_path: Path) -> None:
    make_camvid(tmp_path, n=8, size=SIZE)
    for name in ("frame1", "frame4"):
        (tmp_path / "trainannot" / f"{name}.png").unlink()
    camvid = load_camvid(tmp_path, (24, 32))
    train, val, test = ((tmp_path / split, tmp_path / f"{split}annot") for split in ("train", "val", "test"))
    options = FolderOptions(*train, val=tuple(map(str, val)), test=tuple(map(str, test)), void=("11",))
    folder, _ = load_folder(options, (24, 32), 0, tmp_path)
    assert_same(folder, camvid)
    assert folder.unlabelled == camvid.unlabelled == (1, 4)
    batches = []
    for data, labelled in ((camvid, 6), (folder, None)):
        torch.manual_seed(0)
        chosen = labelled_images(data, labelled, 5)
        crops = Crops(data.train, chosen, (24, 32), (0.75, 1.5), labelled=True)
        source = Batches(crops, 4, 0, Shard(torch.device("cpu")))
        batches.append([source.draw() for _ in range(5)])
    for one, other in zip(*batches, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_sparse_label_maps_train(here: Path) -> None:
    rng = np.random.default_rng(0)
    for path in label_maps(here):
        save_ids(path, np.where(rng.random(SIZE) < 0.002, ids_of(path), np.uint8(255)))
    save_ids(Path("painted/img_00.png"), np.full(SIZE, 255, np.uint8))
    data = load(classes=CLASSES)
    assert 0.5 < np.mean([(data.train.label(i) == VOID).float().mean() for i in range(6)]) < 1
    trainer = Trainer(replace(FOLDER, **TINY, out=here / "run"), data, "cowmix")
    before = [parameter.detach().clone() for parameter in trainer.student.parameters()]
    scalars = [trainer.step() for _ in range(4)]
    assert all(value.isfinite() for some in scalars for value in some.values())
    assert any(not torch.equal(old, new) for old, new in zip(before, trainer.student.parameters(), strict=True))


@pytest.mark.usefixtures("here")
def test_memory_is_bounded() -> None:
    split = load().train
    assert isinstance(split, FolderSplit)
    memory, read = Memory(2 * split.image(0).nbytes), []

    def look(index: int) -> torch.Tensor:
        read.append(index)
        return split.image(index)

    for _ in range(2):
        for index in range(4):
            memory.get(Path(str(index)), lambda index=index: look(index))  # type: ignore[misc]
    assert read == [0, 1, 2, 3, 2, 3]
    assert memory.room == 0


@pytest.mark.usefixtures("here")
def test_crops_are_of_own_sizes() -> None:
    Image.new("RGB", (90, 50)).save("photos/img_00.jpg")
    save_ids(Path("painted/img_00.png"), np.zeros((50, 90), np.uint8))
    data = load(fit="crop", val=("2",), classes=CLASSES)
    assert data.own_sizes
    assert {tuple(data.train.image(i).shape[1:]) for i in range(10)} | {
        tuple(data.val.image(i).shape[1:]) for i in range(2)
    } == {SIZE, (50, 90)}
    crops = Crops(data.train, range(10), (32, 32), (1, 1), labelled=False)
    assert {tuple(crops[index, 0, 0][0].shape) for index in range(10)} == {(3, 32, 32)}


SMALL = (
    *("--encoder", "tu-lcnet_050", "--encoder-weights", "none", "--decoder-channels", "16", "16", "8", "8", "8"),
    *("--size", "32", "48", "--iterations", "2", "--batch-size", "2"),
)


@pytest.mark.usefixtures("here")
def test_by_command() -> None:
    script = ROOT / "examples" / "train_folder.py"
    words = ("--images", "photos", "--labels", "painted", "--classes", *CLASSES, *SMALL, "--out", "run")
    done = run_script(script, *words)
    assert done.returncode == 0, done.stderr
    assert "12 images, 8 of them with a label map" in done.stdout
    listed = Path("run/val.txt").read_text().split()
    assert len(listed) == 2
    report = json.loads(Path("run/metrics.json").read_text())
    assert set(report["test"]) == {"supervised", "cowmix"}
    assert report["dataset"] == "photos"
    trained = load_network("run/cowmix")
    assert (trained.classes, trained.size) == (CLASSES, (32, 48))
    done = run_script(script, *words, "--iterations", "2", "--resume")
    assert done.returncode == 0, done.stderr
    assert json.loads(Path("run/metrics.json").read_text())["test"] == report["test"]
    predict = ROOT / "examples" / "predict.py"
    done = run_script(predict, "run/cowmix", "photos", "--out", "predictions", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert len(list(Path("predictions/labels").iterdir())) == own_pictures.N


def test_the_docs_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run, own, export, to_onnx = (block.code for block in blocks("docs/own-pictures.md"))
    space: dict[str, Any] = {"images": torch.rand(2, 3, 64, 96)}
    with torch.no_grad():
        exec(own, space)
        expected = space["teacher"].module(space["images"])
        assert torch.equal(space["trained"].network(space["images"]), expected)
        shutil.copytree("own", "runs/folder/cowmix")
        exec(run, space)
        assert torch.equal(space["logits"], expected)
        exec(export, space)
        assert torch.allclose(space["logits"], expected, atol=1e-4)
        exec(to_onnx, space)
    assert Path("network.onnx").exists()
    assert (space["trained"].classes, space["trained"].size) == (("cat", "dog"), (120, 160))


@pytest.mark.usefixtures("here")
def test_by_command_on_crops_with_workers() -> None:
    script = ROOT / "examples" / "train_folder.py"
    words = ("--images", "photos", "--labels", "painted", *SMALL, "--out", "run", "--method", "cutout")
    done = run_script(script, *words, "--fit", "crop", "--window", "32", "48", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "validation set at their own sizes" in " ".join(done.stdout.split())
    assert load_network("run").size is None


def test_by_command_with_what_is_wrong(here: Path) -> None:
    script = ROOT / "examples" / "train_folder.py"
    for words, text in (
        ((), "--images takes the folder of your images"),
        (("--images", "photos", "--labels", "painted", "--classes", "all"), "not two classes beside void"),
        (("--images", "photos", "--labels", "painted", *own_pictures.several(here)), "label maps in painted have no"),
    ):
        done = run_script(script, *words, *SMALL, "--out", "run")
        assert done.returncode == 1
        assert done.stderr.startswith("train_folder: ")
        assert text in done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in Path("run").iterdir()] == [".lock"]
