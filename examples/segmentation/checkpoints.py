"""Checkpoints that are whole or not there, whenever the run is killed."""

import shutil
from pathlib import Path

from accelerate import Accelerator


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is the old one or the new one, whenever the run is killed."""
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
        """Remove those of an earlier run."""
        for path in (*self._found(), self._folder / "writing"):
            shutil.rmtree(path, ignore_errors=True)

    def save(self, iteration: int) -> None:
        """Write what the accelerator knows of; the older checkpoint goes once this one is whole."""
        accelerator, old = self._accelerator, self._found()
        writing, target = self._folder / "writing", self._folder / f"checkpoint-{iteration:08d}"
        if accelerator.is_main_process:
            shutil.rmtree(writing, ignore_errors=True)  # of a run that was killed here
        accelerator.wait_for_everyone()
        # Not safetensors: it refuses channels_last weights.
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
            # By the CPU: Adam's step counters stay there, where they are read without waiting for a GPU.
            self._accelerator.load_state(str(found[-1]), map_location="cpu")
