"""examples/segmentation: DeepLab v2 is the published network."""

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segmentation.networks.deeplab import AtrousHead, DeepLabV2


def reference(state: Mapping[str, Tensor], x: Tensor, layers: tuple[int, ...], strides: tuple[int, int]) -> Tensor:
    """DeepLab v2 written out; `strides` are those of the 1x1 and 3x3 convolutions of layer2's first block."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (state[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias)

    size = x.shape[-2:]
    x = norm(F.conv2d(x, state["conv1.weight"], stride=2, padding=3), "bn1").relu()
    x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
    for number, (n_blocks, dilation) in enumerate(zip(layers, (1, 1, 2, 4), strict=True), 1):
        for block in range(n_blocks):
            name = f"layer{number}.{block}"
            s1, s3 = strides if (number, block) == (2, 0) else (1, 1)
            y = norm(F.conv2d(x, state[f"{name}.conv1.weight"], stride=s1), f"{name}.bn1").relu()
            y = F.conv2d(y, state[f"{name}.conv2.weight"], stride=s3, padding=dilation, dilation=dilation)
            y = F.conv2d(norm(y, f"{name}.bn2").relu(), state[f"{name}.conv3.weight"])
            if block == 0:
                x = norm(F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=s1 * s3), f"{name}.downsample.1")
            x = (x + norm(y, f"{name}.bn3")).relu()
    branches = [
        F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=rate, dilation=rate)
        for rate, name in ((rate, f"layer5.conv2d_list.{i}") for i, rate in enumerate((6, 12, 18, 24)))
    ]
    return F.interpolate(sum(branches[1:], branches[0]), size, mode="bilinear", align_corners=True)


def test_deeplab_has_the_published_parameters() -> None:
    with torch.device("meta"):
        network = DeepLabV2(21, stride_on_3x3=False)
    assert sum(parameter.numel() for parameter in network.parameters()) == 44_048_532
    norms, convolutions = ["bn1"], ["conv1"]
    for layer, n_blocks in enumerate((3, 4, 23, 3), 1):
        for block in (f"layer{layer}.{i}" for i in range(n_blocks)):
            convolutions += [f"{block}.conv{i}" for i in (1, 2, 3)]
            norms += [f"{block}.bn{i}" for i in (1, 2, 3)]
        convolutions.append(f"layer{layer}.0.downsample.0")
        norms.append(f"layer{layer}.0.downsample.1")
    weights = [f"{name}.weight" for name in convolutions]
    affine = [f"{name}.{kind}" for name in norms for kind in ("weight", "bias")]
    buffers = [f"{name}.{kind}" for name in norms for kind in ("running_mean", "running_var", "num_batches_tracked")]
    head = [f"layer5.conv2d_list.{i}.{kind}" for i in range(4) for kind in ("weight", "bias")]
    assert sorted(network.state_dict()) == sorted(weights + affine + buffers + head)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert sorted(trained) == sorted(weights + head)


def test_deeplab_has_an_eighth_of_the_size() -> None:
    sizes = []
    with torch.device("meta"):
        network = DeepLabV2(21, stride_on_3x3=False).eval()
        network.layer5.register_forward_hook(lambda _module, inputs, _output: sizes.append(inputs[0].shape))
        assert network(torch.rand(1, 3, 321, 321)).shape == (1, 21, 321, 321)
    assert sizes == [(1, 2048, 41, 41)]
    for layer, dilation in ((network.layer2, 1), (network.layer3, 2), (network.layer4, 4)):
        assert {block.conv2.dilation for block in layer} == {(dilation, dilation)}


@pytest.mark.parametrize("strides", [(2, 1), (1, 2)])
@pytest.mark.parametrize("layers", [(1, 1, 1, 1), (1, 2, 2, 2)])
def test_deeplab_is_the_reference(layers: tuple[int, ...], strides: tuple[int, int]) -> None:
    network = DeepLabV2(5, layers, stride_on_3x3=strides == (1, 2)).eval()
    for name, value in network.state_dict().items():
        if "running" in name or "bn" in name or "downsample.1" in name:
            value.copy_(torch.rand_like(value, dtype=torch.float) / 2 + 0.5)
    x = torch.randn(2, 3, 70, 40)  # max-pooling rounds up
    with torch.no_grad():
        result, expected = network(x), reference(network.state_dict(), x, layers, strides)
    assert expected.std() > 0.1
    assert torch.allclose(result, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_the_head_sums_four_branches() -> None:
    head = AtrousHead(8, 3)
    x = torch.randn(2, 8, 30, 35)
    state = head.state_dict()
    branches = [
        F.conv2d(x, state[f"conv2d_list.{i}.weight"], state[f"conv2d_list.{i}.bias"], padding=rate, dilation=rate)
        for i, rate in enumerate((6, 12, 18, 24))
    ]
    assert torch.allclose(head(x), torch.stack(branches).sum(0), atol=1e-6)
    for name, value in AtrousHead(2048, 5).named_parameters():
        if name.endswith("weight"):
            assert value.std().item() == pytest.approx(0.01, rel=0.05)
