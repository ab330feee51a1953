"""The arguments of every public name: their defaults, and all of them wrong in the ways people get them wrong."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import cowmask
from cowmask import CowMix, CowOut, CutMix, CutOut, MixUp, box_masks, consistency_loss, cow_masks, erase, mix

NAN, INF = float("nan"), float("inf")
ON_META = torch.device("meta")
Case = tuple[dict[str, Any], type[Exception], str]


def some(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(shape, dtype=dtype)


# Wrong values where a number, a range or per-mask values between 0 and 1 are expected.
NOT_FRACTIONS: list[tuple[Any, type[Exception], str]] = [
    (-0.1, ValueError, "NAME must be finite, at least 0 and at most 1, got -0.1"),
    (1.5, ValueError, "at most 1, got 1.5"),
    (50, ValueError, "at most 1, got 50"),
    (NAN, ValueError, "NAME must be finite.*got nan"),
    (INF, ValueError, "NAME must be finite.*got inf"),
    ((0.2, 1.2), ValueError, r"NAME\[1\] must be finite.*got 1.2"),
    ((NAN, 0.5), ValueError, r"NAME\[0\] must be finite.*got nan"),
    ((0.8, 0.2), ValueError, r"NAME as a range must be \(low, high\) with low <= high, got \(0.8, 0.2\)"),
    ((0.1, 0.2, 0.3), ValueError, r"NAME as a range must be \(low, high\), got 3 values"),
    ((), ValueError, r"NAME as a range must be \(low, high\), got 0 values"),
    (("a", "b"), TypeError, r"NAME\[0\] must be a number, got str 'a'"),
    ((True, True), TypeError, r"NAME\[0\] must be a number, got bool True"),
    ("half", TypeError, r"NAME must be a number, a \(low, high\) range or a CPU tensor.*got str 'half'"),
    (None, TypeError, "NAME must be a number.*got NoneType None"),
    (True, TypeError, "NAME must be a number.*got bool True"),
    (1j, TypeError, "NAME must be a number.*got complex"),
    ({0.1, 0.2}, TypeError, "NAME must be a number.*got set"),
    (np.array([0.1, 0.2]), TypeError, "NAME must be a number.*got ndarray"),
    (torch.tensor(0.5), ValueError, r"NAME as per-mask values must have shape \(n,\), got \(\)"),
    (torch.full((2, 1), 0.5), ValueError, r"NAME as per-mask values must have shape \(n,\), got \(2, 1\)"),
    (torch.empty(0), ValueError, r"NAME as per-mask values must have shape \(n,\), got \(0,\)"),
    (torch.tensor([0.5, 1.5]), ValueError, "NAME must be finite.*got 0.5 to 1.5"),
    (torch.tensor([0.5, NAN]), ValueError, "NAME must be finite.*got nan"),
    (torch.tensor([True, False]), TypeError, "NAME as per-mask values must hold numbers, got torch.bool"),
    (torch.tensor([0.5j, 0.1]), TypeError, "NAME as per-mask values must hold numbers, got torch.complex64"),
    (
        torch.full((2,), 0.5, device=ON_META),
        ValueError,
        "NAME as per-mask values must be a CPU tensor, got one on meta",
    ),
]


def fractions(name: str) -> list[Case]:
    return [({name: value}, error, words.replace("NAME", name)) for value, error, words in NOT_FRACTIONS]


SIGMA: list[Case] = [
    ({"sigma": 0}, ValueError, "sigma must be finite, above 0, got 0"),
    ({"sigma": -4}, ValueError, "sigma must be finite, above 0, got -4"),
    ({"sigma": 1e-5}, ValueError, "sigma must be finite, at least 0.001 and at most 10000, got 1e-05"),
    ({"sigma": 1e6}, ValueError, "sigma must be finite, at least 0.001 and at most 10000, got 1e.06"),
    ({"sigma": (0, 4)}, ValueError, r"sigma\[0\] must be finite, above 0, got 0"),
    ({"sigma": (16, 4)}, ValueError, "low <= high"),
    ({"sigma": "4"}, TypeError, "sigma must be a number"),
    ({"sigma": torch.tensor([4, 0])}, ValueError, "sigma must be finite, above 0, got 0 to 4"),
    ({"sigma": 4, "spacing": (1e-9, 1)}, ValueError, "in pixels"),
    ({"spacing": 2}, TypeError, "spacing must be a tuple of one number per axis, got int 2"),
    ({"spacing": "11"}, TypeError, "spacing must be a tuple"),
    ({"spacing": ()}, ValueError, "spacing must have one number per axis"),
    ({"spacing": b"11"}, TypeError, "spacing must be a tuple"),
    ({"spacing": (1, 0)}, ValueError, r"spacing\[1\] must be finite, above 0, got 0"),
    ({"spacing": (1, NAN)}, ValueError, r"spacing\[1\] must be finite"),
    ({"spacing": (1, "2")}, TypeError, r"spacing\[1\] must be a number, got str"),
]
BOXES: list[Case] = [
    ({"aspect": 0}, ValueError, "aspect must be finite, above 0, got 0"),
    ({"aspect": INF}, ValueError, "aspect must be finite"),
    ({"aspect": (0.5, 2)}, TypeError, "aspect must be a number, got tuple"),
    ({"n_boxes": 0}, ValueError, "n_boxes must be at least 1, got 0"),
    ({"n_boxes": 1.5}, TypeError, "n_boxes must be an integer, got float"),
    ({"n_boxes": 2**70}, ValueError, r"n_boxes must be below 2\^63"),
    ({"n_boxes": True}, TypeError, "n_boxes must be an integer, got bool"),
    ({"clip": "yes"}, TypeError, "clip must be True or False, got str"),
    ({"clip": 1}, TypeError, "clip must be True or False, got int"),
]
DRAWS: list[Case] = [
    ({"n": 0}, ValueError, "n must be at least 1, got 0"),
    ({"n": 2**70}, ValueError, r"n must be below 2\^63, got 1180591620717411303424"),
    ({"n": 10**400}, ValueError, r"n must be below 2\^63, got 100000000.*\.\.\."),
    ({"size": (4, 2**70)}, ValueError, r"size\[1\] must be below 2\^63"),
    ({"n": 2.0}, TypeError, "n must be an integer, got float"),
    ({"n": "2"}, TypeError, "n must be an integer, got str"),
    ({"n": None}, TypeError, "n must be an integer"),
    ({"n": True}, TypeError, "n must be an integer"),
    ({"size": 64}, TypeError, "size must be a tuple of 1 to 3 lengths"),
    ({"size": "64"}, TypeError, "size must be a tuple"),
    ({"size": ()}, ValueError, "size must have 1 to 3 axes, got 0"),
    ({"size": (4, 4, 4, 4)}, ValueError, "size must have 1 to 3 axes, got 4"),
    ({"size": (4, 0)}, ValueError, r"size\[1\] must be at least 1"),
    ({"size": (4.0, 4)}, TypeError, r"size\[0\] must be an integer"),
    ({"generator": 3}, TypeError, "generator must be a torch.Generator, got int"),
    ({"generator": np.random.default_rng(0)}, TypeError, "generator must be a torch.Generator"),
    (
        {"device": ON_META, "generator": torch.Generator()},
        ValueError,
        "generator is on cpu.*drawn on meta.*make it with",
    ),
    ({"dtype": torch.int64}, ValueError, "dtype must be torch.bool or floating of 16 to 64 bits, got torch.int64"),
    ({"dtype": torch.complex64}, ValueError, "dtype must be torch.bool or floating"),
    ({"dtype": torch.float8_e5m2}, ValueError, "dtype must be torch.bool or floating of 16 to 64 bits"),
    ({"device": "gpu"}, ValueError, "device must be a torch.device or a string such as .cuda:0., got str 'gpu'"),
    ({"device": 3.0}, ValueError, "device must be a torch.device or a string"),
    ({"dtype": float}, TypeError, "dtype must be a torch.dtype"),
    ({"dtype": "bool"}, TypeError, "dtype must be a torch.dtype"),
]
COW_MASKS: list[Case] = [
    *DRAWS,
    *SIGMA,
    *fractions("proportion"),
    ({"sigma": torch.ones(3)}, ValueError, "sigma holds 3 per-mask values, but 2 masks are asked for"),
    ({"proportion": torch.ones(3)}, ValueError, "proportion holds 3 per-mask values, but 2 masks"),
    ({"spacing": (1, 1, 1)}, ValueError, "spacing must have one number per axis: expected 2, got 3"),
    ({"noise": np.zeros((2, 1, 16, 18))}, TypeError, "noise must be a tensor, got ndarray"),
    (
        {"noise": torch.ones(2, 1, 16, 18, dtype=torch.int)},
        TypeError,
        "noise must be a floating tensor, got a tensor .* torch.int32",
    ),
    ({"noise": torch.ones(2, 16, 18)}, ValueError, r"noise must have shape \(n, 1, \*size\) = \(2, 1, 16, 18\), got"),
    ({"noise": torch.ones(2, 3, 16, 18)}, ValueError, "noise must have shape"),
    (
        {"noise": some(2, 1, 16, 18).to(ON_META), "device": "cpu"},
        ValueError,
        "noise is on meta, but the masks are drawn",
    ),
    ({"noise": some(2, 1, 16, 18).to_sparse()}, TypeError, "noise must be a dense tensor, got torch.sparse_coo"),
    ({"method": "fft"}, ValueError, "method must be .auto., .spectral., .direct. or .coarse., got str 'fft'"),
    ({"method": None}, ValueError, "method must be .auto., .spectral., .direct. or .coarse., got NoneType"),
    ({"method": "coarse", "noise": some(2, 1, 16, 18)}, ValueError, "method=.coarse. draws its own noise"),
    ({"method": "coarse", "device": "meta"}, ValueError, "method=.coarse. draws on the CPU, got device='meta'"),
    (
        {"method": "coarse", "sigma": (0.9, 4)},
        ValueError,
        r"takes a sigma from 1 pixel to half of each axis, got 0.9 to 4, 0.9 to 4 for \(16, 18\)",
    ),
    ({"method": "coarse", "sigma": 3, "spacing": (4, 1)}, ValueError, "got 0.75 to 0.75, 3 to 3"),
    ({"method": "coarse", "sigma": (2, 9)}, ValueError, "to half of each axis"),
]
BOX_MASKS: list[Case] = [
    *DRAWS,
    *BOXES,
    *fractions("area"),
    ({"area": torch.ones(3)}, ValueError, "area holds 3 per-mask values, but 2 masks"),
    ({"size": (16,), "aspect": 1}, ValueError, "aspect is height over width: it needs a size of two axes"),
]


BOOLS = some(2, 1, 4, 5, dtype=torch.bool)
IMAGES = some(2, 3, 4, 5)
MASKS: list[Case] = [
    ({"mask": BOOLS.numpy()}, TypeError, "mask must be a tensor, got ndarray"),
    ({"mask": None}, TypeError, "mask must be a tensor, got NoneType"),
    ({"mask": BOOLS.int()}, TypeError, r"mask must be bool \(select\) or floating \(blend\), got torch.int32: try"),
    ({"mask": BOOLS.to(ON_META)}, ValueError, "mask is on meta, but"),
    ({"mask": some(2, 1, 4, 6, dtype=torch.bool)}, ValueError, r"mask of shape \(2, 1, 4, 6\) .*: pass \(2, 1, 4, 5\)"),
    ({"mask": some(2, 4, 5, dtype=torch.bool)}, ValueError, r"mask of shape \(2, 4, 5\) .*: pass mask\[:, None\]"),
    ({"mask": some(3, 1, 4, 5, dtype=torch.bool)}, ValueError, "does not broadcast"),
    ({"mask": some(1, 2, 1, 4, 5, dtype=torch.bool)}, ValueError, "does not broadcast"),
]
MIX: list[Case] = [
    *MASKS,
    ({"a": IMAGES.numpy()}, TypeError, "a must be a tensor, got ndarray"),
    ({"a": IMAGES.to_sparse()}, TypeError, r"a must be a dense tensor, got torch.sparse_coo: try a.to_dense\(\)"),
    ({"b": [1, 2]}, TypeError, "b must be a tensor, got list"),
    ({"b": some(2, 3, 4, 6)}, ValueError, "a and b must have the same shape, got .*: resize or crop both to one size"),
    (
        {"a": some(2, 3, 5), "b": some(2, 3, 5), "mask": some(2, 5) > 0},
        ValueError,
        r"broadcast.*: pass mask\[:, None\]",
    ),
    ({"a": some(3, 5), "b": some(3, 5), "mask": some(3) > 0}, ValueError, r"does not broadcast to .*: pass \(3, 5\)$"),
    ({"a": some(3, 5), "b": some(3, 5), "mask": some(2, 7) > 0}, ValueError, r"to .*: pass \(3, 5\)$"),
    ({"a": IMAGES[:, 0], "b": IMAGES[:, 0], "mask": BOOLS.mT}, ValueError, r"broadcast to .*: pass \(2, 1, 4, 5\)"),
    (
        {"b": IMAGES.half()},
        ValueError,
        r"a and b must have the same dtype, got .* and torch.float16: try b.to\(torch.float32\)",
    ),
    ({"b": IMAGES.to(ON_META)}, ValueError, r"a and b must have the same device, got cpu and meta: try b.to\('cpu'\)"),
    ({"a": IMAGES.byte(), "b": IMAGES.byte(), "mask": BOOLS.float()}, TypeError, "blends floating tensors only"),
]
FILLS: list[Case] = [
    ({"fill": "black"}, TypeError, "fill must be a number, or a tensor that broadcasts.*got str"),
    ({"fill": None}, TypeError, "fill must be a number"),
    ({"fill": NAN}, ValueError, "fill must be finite.*got nan"),
    ({"fill": (0.1, 0.2, 0.3)}, TypeError, "fill must be a number, or a tensor that broadcasts.*got tuple"),
]
ERASE: list[Case] = [
    *MASKS,
    *FILLS,
    ({"x": IMAGES.numpy()}, TypeError, "x must be a tensor, got ndarray"),
    ({"x": IMAGES.byte(), "mask": BOOLS.float()}, TypeError, "blends floating tensors only"),
    ({"fill": some(3)}, ValueError, r"fill of shape \(3,\) does not broadcast.*try \(C, 1, 1\)"),
    ({"fill": some(3, 1, 1).to(ON_META)}, ValueError, "fill is on meta, but x is on cpu"),
    ({"x": IMAGES.byte(), "fill": 300}, ValueError, "fill must be finite, at least 0 and at most 255, got 300"),
    ({"x": IMAGES.byte(), "fill": 0.5}, ValueError, "fill must be a whole number for tensors of torch.uint8, got 0.5"),
    ({"x": IMAGES.byte(), "fill": some(3, 1, 1)}, TypeError, "fill of torch.float32 does not fit x of torch.uint8"),
    ({"x": IMAGES.long(), "fill": 2**63}, ValueError, "fill must be finite.*, got 9223372036854775808"),
    ({"x": IMAGES.long(), "fill": 2.0**63}, ValueError, "fill must be finite.*, got 9223372036854775808"),
    ({"x": IMAGES.long(), "fill": 10**400}, ValueError, "fill must be finite"),
    ({"x": IMAGES.bool(), "fill": 0.5}, ValueError, "fill must be a whole number for tensors of torch.bool, got 0.5"),
    ({"x": IMAGES.bool(), "fill": 2}, ValueError, "fill must be finite, at least 0 and at most 1, got 2"),
    ({"x": IMAGES.byte(), "fill": torch.tensor(300)}, TypeError, "fill of torch.int64 does not fit x of torch.uint8"),
    ({"fill": torch.tensor(1j)}, TypeError, "fill of torch.complex64 does not fit"),
    ({"fill": 10**400}, ValueError, "fill must be finite.*got inf"),
    ({"x": IMAGES.half(), "fill": 1e6}, ValueError, "fill must be finite.*got 1e.06"),
]
PREDICTIONS = some(2, 3, 4, 5)
LOSS: list[Case] = [
    ({"student_logits": PREDICTIONS.numpy()}, TypeError, "student_logits must be a tensor, got ndarray"),
    ({"student_logits": PREDICTIONS.long()}, TypeError, "student_logits must be floating, got torch.int64"),
    ({"teacher_probs": [0.5]}, TypeError, "teacher_probs must be a tensor"),
    ({"teacher_probs": some(2, 4, 5, dtype=torch.long)}, TypeError, "teacher_probs must be floating"),
    ({"teacher_probs": some(2, 3, 4, 6)}, ValueError, "must have the same shape.*torch.nn.functional.interpolate"),
    (
        {"student_logits": some(2, 3, 8), "teacher_probs": some(2, 3, 9)},
        ValueError,
        "must have the same shape.*torch.nn.functional.interpolate",
    ),
    ({"teacher_probs": some(2, 4, 4, 5)}, ValueError, r"same shape, got \(2, 3, 4, 5\) and \(2, 4, 4, 5\)$"),
    ({"teacher_probs": PREDICTIONS.to(ON_META)}, ValueError, "must be on one device, got cpu and meta"),
    ({"student_logits": some(5), "teacher_probs": some(5)}, ValueError, r"\(B, K, \*size\) or \(B, K\), not empty"),
    ({"student_logits": some(0, 3), "teacher_probs": some(0, 3)}, ValueError, "not empty"),
    ({"student_logits": some(2, 1, 4), "teacher_probs": some(2, 1, 4)}, ValueError, "class axis of 2 or more.*sigmoid"),
    ({"teacher_probs": 9 * PREDICTIONS}, ValueError, r"teacher_probs must be in \[0, 1\].*pass logits.softmax\(1\)"),
    ({"mask": BOOLS.numpy()}, TypeError, "mask must be a tensor"),
    ({"mask": BOOLS.int()}, TypeError, r"mask must be bool or floating, got torch.int32: try mask.bool\(\)"),
    ({"mask": some(2, 3, 4, 5)}, ValueError, r"mask of shape \(2, 3, 4, 5\) does not fit.*pass \(2, 1, 4, 5\)"),
    ({"mask": some(2, 1, 16, 20)}, ValueError, "does not fit.*or resize the predictions by torch.nn.functional.interp"),
    ({"mask": BOOLS.to(ON_META)}, ValueError, "mask is on meta, but the predictions are on cpu"),
    ({"valid": some(2, 4, 5)}, TypeError, r"valid must be bool, got torch.float32: try valid.bool\(\)"),
    ({"valid": some(2, 4, 6, dtype=torch.bool)}, ValueError, r"valid of shape .* pass \(2, 1, 4, 5\)"),
    ({"threshold": 97}, ValueError, "threshold must be finite, at least 0 and at most 1, got 97"),
    ({"threshold": "high"}, TypeError, "threshold must be a number"),
    ({"threshold": 0.5, "confidence": some(2)}, ValueError, "confidence takes the place of the threshold"),
    ({"confidence": some(3)}, ValueError, r"confidence of shape \(3,\) does not fit"),
    ({"confidence": 3 * some(2)}, ValueError, r"confidence must be in \[0, 1\], got 3 to 3: pass the probability"),
    ({"confidence": some(2).long()}, TypeError, "confidence must be floating in .* or bool, got torch.int64"),
    ({"confidence": some(2).to(ON_META)}, ValueError, "confidence is on meta"),
    ({"per_pixel": "no"}, TypeError, "per_pixel must be True or False, got str"),
    ({"distance": "kl"}, ValueError, "distance must be .mse., .sse., .bce. or .ce., got str 'kl'"),
    ({"distance": None}, ValueError, "distance must be"),
]
NUM_CLASSES: list[Case] = [
    ({"num_classes": 0}, ValueError, "num_classes must be at least 1, got 0"),
    ({"num_classes": 10.0}, TypeError, "num_classes must be an integer"),
    ({"num_classes": 2**70}, ValueError, r"num_classes must be below 2\^63"),
]
P_AND_AXES: list[Case] = [
    ({"p": 2}, ValueError, "p must be finite, at least 0 and at most 1, got 2"),
    ({"p": "half"}, TypeError, "p must be a number"),
    ({"ndim": 4}, ValueError, "ndim must be 1"),
    ({"ndim": 2**70}, ValueError, "ndim must be 1"),
    ({"ndim": 0}, ValueError, r"ndim must be 1 \(signals\), 2 \(images\) or 3 \(volumes\), got int 0"),
    ({"ndim": 2.0}, ValueError, "ndim must be 1"),
    ({"ndim": True}, ValueError, "ndim must be 1"),
]
ALPHA: list[Case] = [
    ({"alpha": 0}, ValueError, "alpha must be finite, above 0, got 0"),
    ({"alpha": NAN}, ValueError, "alpha must be finite"),
    ({"alpha": (0.1, 1)}, TypeError, "alpha must be a number, got tuple"),
]
CALLS: dict[Callable[..., Any], tuple[dict[str, Any], list[Case]]] = {
    cow_masks: ({"n": 2, "size": (16, 18)}, COW_MASKS),
    box_masks: ({"n": 2, "size": (16, 18)}, BOX_MASKS),
    mix: ({"a": IMAGES, "b": IMAGES, "mask": BOOLS}, MIX),
    erase: ({"x": IMAGES, "mask": BOOLS}, ERASE),
    consistency_loss: ({"student_logits": PREDICTIONS, "teacher_probs": PREDICTIONS}, LOSS),
    CowMix: ({}, [*SIGMA, *fractions("proportion"), *NUM_CLASSES, *P_AND_AXES]),
    CowOut: ({}, [*SIGMA, *fractions("proportion"), *FILLS, *P_AND_AXES]),
    CutMix: ({}, [*BOXES, *fractions("area"), *NUM_CLASSES, *P_AND_AXES]),
    CutOut: ({}, [*BOXES, *fractions("area"), *FILLS, *P_AND_AXES]),
    MixUp: ({}, [*ALPHA, *NUM_CLASSES, *P_AND_AXES]),
}


SIGNATURES = {
    "CowMix": "sigma=(4, 16), proportion=0.5, *, spacing=None, num_classes=None, p=1.0, ndim=2",
    "CowOut": "sigma=(4, 16), proportion=(0.0, 1.0), *, spacing=None, fill=0.0, p=1.0, ndim=2",
    "CutMix": "area=0.5, aspect=None, *, n_boxes=1, clip=False, num_classes=None, p=1.0, ndim=2",
    "CutOut": "area=(0.0, 1.0), aspect=None, *, n_boxes=1, clip=False, fill=0.0, p=1.0, ndim=2",
    "MeanTeacher": "student, decay=0.99",
    "MixUp": "alpha=1.0, *, num_classes=None, p=1.0, ndim=2",
    "box_masks": "n, size, area=0.5, aspect=None, *, n_boxes=1, clip=False, generator=None, device=None, "
    "dtype=torch.bool",
    "consistency_loss": "student_logits, teacher_probs, mask=None, *, valid=None, confidence=None, threshold=None, "
    "per_pixel=False, distance='mse'",
    "cow_masks": "n, size, sigma=(4, 16), proportion=0.5, *, spacing=None, noise=None, method='auto', backend='auto', "
    "precision='high', generator=None, device=None, dtype=torch.bool",
    "erase": "x, mask, fill=0.0, *, backend='auto'",
    "mix": "a, b, mask, *, backend='auto'",
}


@pytest.mark.parametrize("name", cowmask.__all__)
def test_arguments_have_their_names_and_defaults(name: str) -> None:
    signature = inspect.signature(getattr(cowmask, name))
    bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    assert str(inspect.Signature(bare)) == f"({SIGNATURES[name]})"


@pytest.mark.parametrize(
    ("call", "arguments", "error", "words"),
    [pytest.param(call, good | bad, *expected) for call, (good, cases) in CALLS.items() for bad, *expected in cases],
)
def test_refused_with_words_and_nothing_drawn(
    call: Callable[..., Any], arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    before = torch.get_rng_state()
    with pytest.raises(error, match=words) as raised:
        call(**arguments)
    assert type(raised.value) is error
    assert torch.equal(torch.get_rng_state(), before)


FLOAT8 = [value for name, value in vars(torch).items() if name.startswith("float8")]
# Make tensors that torch stores but hardly computes with.
ODD_TENSORS: dict[str, Callable[[], Tensor]] = {
    "sparse": lambda: IMAGES.to_sparse(),
    "compressed": lambda: IMAGES[0, 0].to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor(list(IMAGES), layout=torch.jagged),
    "nested and strided": lambda: torch.nested.nested_tensor(list(IMAGES), layout=torch.strided),
    "quantised": lambda: torch.quantize_per_tensor(IMAGES, 0.1, 0, torch.quint8),
    **{str(dtype): partial(IMAGES.to, dtype) for dtype in FLOAT8},
    "bits": lambda: IMAGES.byte().view(torch.bits8),
}
# Every argument of every function that may be a tensor.
TENSOR_ARGUMENTS: dict[str, Callable[[Tensor], Any]] = {
    "noise": lambda x: cow_masks(2, (4, 5), noise=x),
    "sigma": lambda x: cow_masks(2, (4, 5), sigma=x),
    "proportion": lambda x: cow_masks(2, (4, 5), proportion=x),
    "area": lambda x: box_masks(2, (4, 5), area=x),
    "sigma of a transform": lambda x: CowOut(sigma=x),
    "area of a transform": lambda x: CutMix(area=x),
    "a": lambda x: mix(x, x, BOOLS),
    "b": lambda x: mix(IMAGES, x, BOOLS),
    "mask of mix": lambda x: mix(IMAGES, IMAGES, x),
    "x": lambda x: erase(x, BOOLS),
    "mask of erase": lambda x: erase(IMAGES, x),
    "fill": lambda x: erase(IMAGES, BOOLS, x),
    "fill of a transform": lambda x: CowOut(fill=x),
    "images": lambda x: CowMix()(x),
    "images of a blend": lambda x: MixUp()(x),
    "images to erase": lambda x: CutOut()(x),
    "images to sample for": lambda x: CutMix().sample(x),
    "targets": lambda x: CowMix()(IMAGES, x),
    "partner": lambda x: CutMix()(IMAGES, partner=x),
    "mask of a mixer": lambda x: CowMix()(IMAGES, mask=x),
    "mask of an eraser": lambda x: CowOut()(IMAGES, mask=x),
    "student_logits": lambda x: consistency_loss(x, PREDICTIONS),
    "teacher_probs": lambda x: consistency_loss(PREDICTIONS, x),
    "mask of the loss": lambda x: consistency_loss(PREDICTIONS, PREDICTIONS, x),
    "valid": lambda x: consistency_loss(PREDICTIONS, PREDICTIONS, valid=x),
    "confidence": lambda x: consistency_loss(PREDICTIONS, PREDICTIONS, confidence=x),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:The PyTorch API of nested tensors", "ignore:.*quantize")
@pytest.mark.parametrize("argument", TENSOR_ARGUMENTS)
@pytest.mark.parametrize("kind", ODD_TENSORS)
def test_tensors_that_torch_hardly_computes_with_are_refused(kind: str, argument: str) -> None:
    before, name = torch.get_rng_state(), argument.split()[0]
    words = (
        rf"{name}(\[0\])? must be (a dense tensor|of a dtype that torch computes with), got .*: try {name}(\[0\])?\.\w+"
    )
    with pytest.raises(TypeError, match=words):
        TENSOR_ARGUMENTS[argument](ODD_TENSORS[kind]())
    assert torch.equal(torch.get_rng_state(), before)


def test_any_integer_is_a_number_of_axes() -> None:
    assert type(CowMix(ndim=np.int64(3)).ndim) is int  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-0.005, 1.005])
def test_16_bit_probabilities_may_exceed_their_range_a_little(value: float) -> None:
    assert consistency_loss(torch.randn(2, 5), torch.full((2, 5), value)).isfinite()
