"""Checkpoints that are complete or absent, whenever the run is killed."""

import shutil
from pathlib import Path

from accelerate import Accelerator


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step: if the run is killed, the file is the old one or the new one."""
    writing = path.with_name(path.name + ".writing")
    writing.write_text(text)
    writing.replace(path)


class Checkpoints:
    """The newest checkpoint of a run, in `folder/checkpoint-ITERATION`."""

    def __init__(self, folder: Path, accelerator: Accelerator) -> None:
        self._folder, self._accelerator = folder, accelerator

    def _found(self) -> list[Path]:
        return sorted(self._folder.glob("checkpoint-*"))

    def clear(self) -> None:
        """Remove the checkpoints of an earlier run."""
        for path in (*self._found(), self._folder / "writing"):
            shutil.rmtree(path, ignore_errors=True)

    def save(self, iteration: int) -> None:
        """Write everything registered with the accelerator; then remove the older checkpoint."""
        accelerator, old = self._accelerator, self._found()
        writing, target = self._folder / "writing", self._folder / f"checkpoint-{iteration:08d}"
        if accelerator.is_main_process:
            shutil.rmtree(writing, ignore_errors=True)  # left by a run that was killed while writing
        accelerator.wait_for_everyone()
        # safetensors refuses channels_last weights.
        accelerator.save_state(str(writing), safe_serialization=False)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            writing.rename(target)
            for checkpoint in old:
                shutil.rmtree(checkpoint)
        accelerator.wait_for_everyone()

    def load_newest(self) -> None:
        """Load the newest checkpoint, if there is one."""
        if found := self._found():
            # Adam's step counters have to stay on the CPU: reading them there does not wait for the GPU.
            self._accelerator.load_state(str(found[-1]), map_location="cpu")
