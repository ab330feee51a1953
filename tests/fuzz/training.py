"""Calls of consistency_loss and MeanTeacher."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import cowmask
from tests.fuzz.calls import Call
from tests.fuzz.values import (
    FLOATS,
    NOT_FLAGS,
    NOT_NUMBERS,
    NOT_TENSORS,
    NOT_VALUES,
    copied,
    described,
    laid_out,
    must,
    must_be_close,
    odd_tensors,
    same_bits,
    sizes,
)


class Loss(Call):
    """`consistency_loss`, against the formula of its docstring in float64."""

    function = staticmethod(cowmask.consistency_loss)

    def fill_in(self) -> None:
        rng = self.rng
        n, size = rng.randint(1, 3), sizes(rng, rng.randint(0, 3))
        shape, pixels = (n, rng.randint(2, 5), *size), (n, 1, *size)
        logits = rng.choice((0.1, 1, 5, 30)) * torch.randn(shape)
        probs = (rng.choice((1, 5, 50)) * torch.randn(shape)).softmax(1)
        self.arguments |= {
            "student_logits": laid_out(rng, logits.to(rng.choice(FLOATS))),
            "teacher_probs": laid_out(rng, probs.to(rng.choice(FLOATS))),
            "distance": rng.choice(("mse", "sse", "bce", "ce")),
            "per_pixel": rng.random() < 0.5,
        }
        weights, valid = torch.rand(pixels), torch.rand(pixels) < rng.choice((0.0, 0.5, 1.0))
        if rng.random() < 0.5:
            self.arguments["mask"] = laid_out(rng, rng.choice((weights < 0.5, weights, weights.half(), weights[:1])))
        if rng.random() < 0.5:
            self.arguments["valid"] = laid_out(rng, rng.choice((valid, valid[:, 0])))
        sure = rng.choice(("threshold", "confidence", "neither"))
        if sure == "threshold":
            self.arguments["threshold"] = rng.choice((0, 0.5, 1, 0.97))
        elif sure == "confidence":
            self.arguments["confidence"] = rng.choice((torch.rand(n), weights, weights[:, 0] < 0.5))
        odd, of_pixels = odd_tensors(logits), odd_tensors(weights)
        wrong = [logits[..., None], probs.long(), probs[:, :1], torch.ones(5)]
        self.bad |= {
            "student_logits": [*wrong, *odd],
            "teacher_probs": [*wrong, *odd],
            "distance": ("kl", None, 3),
            "per_pixel": NOT_FLAGS,
            "mask": [(weights > 0).int(), weights[..., None], *of_pixels],
            "valid": [weights, valid[..., None], *of_pixels],
            "threshold": [value for value in (*NOT_VALUES, -0.1, 1.1, 97) if value is not None],
            "confidence": [torch.ones(n).long(), torch.ones(7), *of_pixels],
        }
        if "valid" not in self.arguments:  # values are checked where they count
            self.bad["teacher_probs"] = [*self.bad["teacher_probs"], probs + 2]
            self.bad["confidence"] = [*self.bad["confidence"], torch.full((n,), 3.0)]

    def check(self) -> None:
        leaf = self.arguments["student_logits"].detach().clone().requires_grad_()
        loss = self.function(**self.arguments | {"student_logits": leaf})
        must(not loss.shape and loss.dtype == torch.float32 and type(loss) is Tensor, f"the loss is {described(loss)}")
        expected = self.expected()
        for one in (loss, self.make()):
            must_be_close(one, expected, 1e-4, f"the loss {one:g}, expected {expected:g},")
        loss.backward()
        must(leaf.grad is not None and leaf.grad.isfinite().all(), "the gradient is not finite")

    def expected(self) -> Tensor:
        logits, probs = (copied(self.arguments[name]).float() for name in ("student_logits", "teacher_probs"))
        log_p, t = logits.double().log_softmax(1), probs.double()
        other = (1 - logits.softmax(1)).clamp(min=torch.finfo(torch.float32).eps)  # what float32 leaves of 1 - p
        distance = {
            "mse": (log_p.exp() - t).square().mean(1),
            "sse": (log_p.exp() - t).square().sum(1),
            "ce": -(t * log_p).sum(1),
            "bce": -(t * log_p + (1 - t) * other.double().log()).mean(1),
        }[self.arguments["distance"]]
        valid, mask = self.per_pixel("valid", distance), self.per_pixel("mask", distance)
        if "confidence" in self.arguments:
            sure = self.per_pixel("confidence", distance)
        else:
            sure = (probs.amax(1) > self.arguments.get("threshold", 0.97 if logits.ndim > 2 else -1)).double()
        n_valid = valid.sum().clamp(min=1)
        if not self.arguments["per_pixel"]:
            sure = (sure * valid).sum() / n_valid
        return (distance * mask * valid * sure).sum() / n_valid

    def per_pixel(self, name: str, like: Tensor) -> Tensor:
        """Return an argument (B,), (B, *size) or (B, 1, *size) as (B, *size), and 1 where there is none."""
        if name not in self.arguments:
            return torch.ones_like(like)
        value = copied(self.arguments[name]).double()
        value = value[:, 0] if value.ndim > like.ndim else value
        return value.view(*value.shape, *[1] * (like.ndim - value.ndim)).expand(like.shape)


class Teacher(Call):
    """`MeanTeacher`, over some updates."""

    function = cowmask.MeanTeacher

    def fill_in(self) -> None:
        rng, self.context = self.rng, ""
        network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
        network.to(rng.choice((torch.float32, torch.float64, torch.bfloat16)))
        rng.choice((network, network[1], nn.Identity())).eval()
        self.arguments |= {"student": network, "decay": rng.choice((0.99, 0, 1, 0.5, np.float32(0.9)))}
        self.bad |= {
            "student": (*NOT_TENSORS, torch.ones(2), nn.Linear, None, nn.LazyLinear(3)),
            "decay": (*NOT_NUMBERS, -0.1, 1.1, None, torch.ones(2)),
        }

    def tensors(self) -> Iterator[Tensor]:
        student = self.arguments["student"]
        yield from student.state_dict().values() if isinstance(student, nn.Module) else ()

    def check(self) -> None:
        student, decay = self.arguments["student"], float(self.arguments["decay"])
        before = {name: value.clone() for name, value in student.state_dict().items()}
        teacher, loaded, dtype = self.make(), cowmask.MeanTeacher(student), student[0].weight.dtype
        expected: dict[str, Any] = {}
        x = torch.randn(5, 3).to(dtype)
        for step in range(self.rng.randint(1, 4)):
            with torch.no_grad():
                for parameter in student.parameters():
                    parameter += 0.1 * torch.randn_like(parameter)
                student(x)  # moves the running statistics
            teacher.update(student)
            for name, new in student.state_dict().items():
                averaged = step > 0 and new.is_floating_point()
                expected[name] = decay * expected[name] + (1 - decay) * new if averaged else new.double().clone()
        for name, average in teacher.module.state_dict().items():
            must_be_close(average, expected[name], 4 * torch.finfo(dtype).eps, f"the average of {name}")
        predicted = teacher(x)
        must(predicted.shape == (5, 2) and not predicted.requires_grad, f"the prediction is {described(predicted)}")
        must(same_bits(predicted, teacher(x)) and not teacher.module.training, "predicting changes the teacher")
        loaded.load_state_dict(teacher.state_dict())
        must(same_bits(loaded(x), predicted), "a loaded teacher predicts something else")
        student.load_state_dict(before)
