"""Checkpoints that are whole or not there, whenever the run is killed."""

import shutil
from pathlib import Path

from accelerate import Accelerator


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
            if target in old:
                shutil.rmtree(target)
            writing.rename(target)
            for checkpoint in old:
                if checkpoint != target:
                    shutil.rmtree(checkpoint)
        accelerator.wait_for_everyone()

    def load_newest(self) -> bool:
        """Load the newest checkpoint; return whether there is one."""
        found = self._found()
        if found:
            self._accelerator.load_state(str(found[-1]))
        return bool(found)
