"""Probes of what matters in a training step: compiling, waiting, gradients, types, workers and containers."""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from benchmarks.compare.batches import SIZE, VALUES, images, labels, maps
from benchmarks.compare.probes import TRIES, NoError, changed, mixed, need, same
from benchmarks.compare.roads import Road

DEPTH, FRAMES = 12, 5


def compiles(road: type[Road]) -> str:
    """torch.compile(fullgraph=True): mixed images and labels, with other masks at each call."""
    function, arguments = road().call(_labelled(road))
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    outs = [_first_tensor(compiled(*copy.deepcopy(arguments))) for _ in range(5)]
    need(any(not same(outs[0], out) for out in outs), "compiled code gives the same masks at every call")
    return ""


class Opened(TorchDispatchMode):
    """Runs the bodies of cowmask's operators, which would else tell shapes alone where tensors have no values."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function.namespace != "cowmask":
            return function(*arguments, **(options or {}))
        with self:
            return function._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, *arguments, **(options or {}))


def reads_nothing(road: type[Road]) -> str:
    """Tensors of the meta device have no values, so whatever reads some of theirs fails."""
    batch = {name: x.to("meta") for name, x in _labelled(road).items()}
    with Opened():
        out = road()(batch)["images"]
    need(out.device.type == "meta", f"comes out on another device: {out.device}")
    return ""


def gradients(road: type[Road]) -> str:
    """Gradients of mixed images: the weights of the pixels that went in add up to one for each that came out."""
    x = images().requires_grad_()
    out = road()({"images": x})["images"]
    need(out.requires_grad, "the result is cut off from the images")
    out.sum().backward()
    total = 0.0 if x.grad is None else float(x.grad.sum())
    share = total / out.numel()
    need(abs(share - 1) < 0.01, f"gradients add up to {share:.0%} of what they should")
    return ""


def inputs_unchanged(road: type[Road]) -> str:
    """What goes in stays as it was."""
    for _ in range(TRIES):
        given = images()
        road()({"images": given})
        need(same(given, images()), "writes into the images")
    return ""


def uint8(road: type[Road]) -> str:
    """Images of bytes stay so, with no new values in them."""
    values = (3 * (VALUES * 16) ** 2).byte().view(-1, 1, 1, 1).repeat(1, 3, *SIZE)
    out = road()({"images": values.clone()})["images"]
    need(out.dtype == torch.uint8, f"comes out as {out.dtype}")
    need(set(out.unique().tolist()) <= {0, *values.unique().tolist()}, "makes new values")
    return ""


def meta_tensors(road: type[Road]) -> str:
    """MONAI's MetaTensor stays one, with its meta."""
    from monai.data import MetaTensor

    out = road()({"images": MetaTensor(images(), meta={"name": "a"})})["images"]
    need(isinstance(out, MetaTensor), f"comes out as {type(out).__name__}")
    need(out.meta.get("name") == "a", "the meta is lost")
    return ""


def bfloat16(road: type[Road]) -> str:
    """Images of bfloat16 stay so."""
    out = road()({"images": images().bfloat16()})["images"]
    need(out.dtype == torch.bfloat16, f"comes out as {out.dtype}")
    return ""


def volumes(road: type[Road]) -> str:
    """Volumes (B, C, D, H, W), by masks that change along all three axes."""
    before, varies = images(size=(DEPTH, *SIZE))[:, :2], [False] * 3
    for _ in range(TRIES):
        out = road()({"images": before.clone()})["images"]
        where = one_mask(changed(out, before))  # (B, D, H, W)
        varies = [one or bool(where.diff(dim=axis).any()) for axis, one in enumerate(varies, 1)]
    along = [name for name, one in zip(("depth", "height", "width"), varies, strict=True) if not one]
    need(not along, f"masks do not change along the {', '.join(along)}")
    return ""


def videos(road: type[Road]) -> str:
    """Videos (B, T, C, H, W), by one mask for all frames of a clip."""
    before, varies = images()[:, None, :2].repeat(1, FRAMES, 1, 1, 1), False
    for _ in range(TRIES):
        where = one_mask(changed(road().clips(before.clone()), before).movedim(1, 2))  # (B, T, H, W)
        need(bool((where == where[:, :1]).all()), "frames of a clip have different masks")
        varies |= bool(where.diff(dim=2).any() and where.diff(dim=3).any())
    need(varies, "nothing is changed")
    return ""


def one_mask(where: Tensor) -> Tensor:
    """Return which pixels (B, *) are changed, of all channels (B, C, *)."""
    need(bool((where == where[:, :1]).all()), "takes another axis for the channels")
    return where[:, 0]


def image_types(road: type[Road]) -> str:
    """tv_tensors.Image stays one."""
    from torchvision import tv_tensors

    out = road()({"images": tv_tensors.Image(images())})["images"]
    need(type(out) is tv_tensors.Image, f"comes out as {type(out).__name__}")
    return ""


def mask_types(road: type[Road]) -> str:
    """tv_tensors.Mask is mixed with its image and stays one."""
    from torchvision import tv_tensors

    out = mixed(road, {"images": tv_tensors.Image(images()), "maps": tv_tensors.Mask(maps())})
    need(type(out["maps"]) is tv_tensors.Mask, f"comes out as {type(out['maps']).__name__}")
    pixels, classes = (out[name].as_subclass(Tensor) for name in ("images", "maps"))
    need(same(VALUES[classes], pixels[:, 0]), "differs from the image")
    return ""


def dicts(road: type[Road]) -> str:
    """A dict of images and labels or maps, with an unknown entry that comes out again."""
    key, out = road().mapping({"name": "a", "images": images(), "labels": labels(), "maps": maps()})
    need(isinstance(out, dict) and out.get("name") == "a", "the unknown entry is lost")
    need(not same(out[key], images()), "the images are not changed")
    return ""


def workers(road: type[Road]) -> str:
    """As collate_fn in DataLoader workers: other masks in each worker, the same for a seed."""
    try:
        return _in_workers(road, seeded=False)
    except NoError:
        if "seed" not in road.options:
            raise
        return _in_workers(road, seeded=True)


def _in_workers(road: type[Road], *, seeded: bool) -> str:
    one, two, same_seed = (_loaded(road, seed, seeded) for seed in (1, 2, 1))
    need(len({tuple(x.flatten().tolist()) for x in one}) == len(one), "workers draw the same masks")
    need(all(map(same, one, same_seed)), "the same seed gives other masks")
    need(not all(map(same, one, two)), "another seed gives the same masks")
    return "with a seed of its own" if seeded else ""


def _loaded(road: type[Road], seed: int, seeded: bool) -> list[Tensor]:
    """Return one batch of each of four workers; the images of all are equal."""
    torch.manual_seed(seed)
    transform = road(seed=seed) if seeded else road()

    def collate(batch: list[Tensor]) -> Tensor:
        return transform({"images": torch.stack(batch)})["images"]

    data: Any = list(images()) * 4
    return list(DataLoader(data, len(VALUES), num_workers=4, collate_fn=collate, multiprocessing_context="fork"))


def _labelled(road: type[Road]) -> dict[str, Tensor]:
    """Return images, and labels if the road takes some."""
    batch = {"images": images(), "labels": labels()}
    try:
        road()(batch)
    except Exception:
        return {"images": images()}
    return {"images": images(), "labels": labels()}  # made anew, since some roads write into their batch


def _first_tensor(values: Any) -> Tensor:
    return next(torch.as_tensor(x) for x in tree_leaves(values) if isinstance(x, Tensor) or hasattr(x, "__array__"))
