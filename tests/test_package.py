import subprocess
import sys

import cowmask


def test_ten_names() -> None:
    assert len(cowmask.__all__) == 10
    assert all(hasattr(cowmask, name) for name in cowmask.__all__)


def test_import_loads_torch_and_nothing_else_that_is_heavy() -> None:
    code = "import sys, torch; before = set(sys.modules); import cowmask; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if not name.startswith("cowmask")] == []
