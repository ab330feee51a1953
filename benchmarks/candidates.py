"""What is timed on any device: cowmask, its rivals, torch.where and a copy."""

from collections.abc import Callable
from itertools import cycle
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.cases import MaskCase, MixCase
from benchmarks.rivals import mask_rivals
from benchmarks.timing import Candidate, Candidates
from cowmask import CowMix, cow_masks, erase, mix


class Buffers(NamedTuple):
    """One set of inputs, and an output."""

    a: Tensor
    b: Tensor
    mask: Tensor
    out: Tensor


def cowmask_candidate(case: MaskCase, device: torch.device, **options: Any) -> Candidate:
    """Return `cow_masks` with some of its options."""
    return Candidate(lambda: cow_masks(case.n, case.size, case.sigma, device=device, dtype=case.dtype, **options))


def mask_candidates(case: MaskCase, device: torch.device, _: int, backend: str) -> Candidates:
    """Return cowmask in its variants, a user's default first, and the rivals."""
    return {
        "cowmask": cowmask_candidate(case, device, backend=backend),
        "cowmask, torch": cowmask_candidate(case, device, backend="torch"),
        "cowmask, highest": cowmask_candidate(case, device, backend=backend, precision="highest"),
        "cowmask, direct": cowmask_candidate(case, device, method="direct"),
    } | mask_rivals(case, device)


def mix_candidates(case: MixCase, device: torch.device, sets: int, backend: str) -> Candidates:
    """Return everything that mixes; successive calls take their inputs from `sets` sets in turn."""
    layout = torch.channels_last if case.channels_last else torch.contiguous_format

    def batch() -> Tensor:
        images = torch.rand(case.batch, 3, *case.size, device=device)
        images = images if case.dtype.is_floating_point else images * 256
        return images.to(case.dtype).contiguous(memory_format=layout)

    buffers = [Buffers(batch(), batch(), cow_masks(case.batch, case.size, device=device), batch()) for _ in range(sets)]
    cowmix, whole = CowMix(), buffers[0].mask.expand_as(buffers[0].a).contiguous(memory_format=layout)

    def over(call: Callable[[Buffers], object]) -> Candidate:
        turns = cycle(buffers)
        return Candidate(lambda: call(next(turns)))

    return {
        "copy": over(lambda x: x.a.clone()),
        "torch.where": over(lambda x: torch.where(x.mask, x.b, x.a)),
        "torch.where, out=": over(lambda x: torch.where(x.mask, x.b, x.a, out=x.out)),
        "torch.where, whole mask": over(lambda x: torch.where(whole, x.b, x.a)),
        "mix": over(lambda x: mix(x.a, x.b, x.mask, backend=backend)),
        "CowMix, mask=": over(lambda x: cowmix(x.a, mask=x.mask)),
        "CowMix": over(lambda x: cowmix(x.a)),
        "torch.where, 0": over(lambda x: torch.where(x.mask, x.a, 0)),
        "erase": over(lambda x: erase(x.a, x.mask, backend=backend)),
    }
