"""Count the cases of what v2.CutMix and v2.MixUp promise that torchvision, cowmask and the integration pass.

python -m tests.peer_torchvision
"""

from typing import Any

from torchvision.transforms import v2

import cowmask
from cowmask.integrations import torchvision as integration
from tests.peers import modules, samples, wishes  # noqa: F401 (they add to the cases)
from tests.peers.cases import PROMISES, WISHES, Case

LIBRARIES: dict[str, Any] = {"torchvision": v2, "cowmask": cowmask, "integration": integration}


def passes(one: Case, library: Any) -> bool:
    """Tell whether a library keeps a promise."""
    try:
        one.run(library)
    except Exception:  # whatever it is
        return False
    return True


def main() -> None:
    """Print how many cases each library passes, and which the integration fails."""
    for title, cases in (("promises", PROMISES), ("wishes", WISHES)):
        print(f"{len(cases)} {title}")
        for name, library in LIBRARIES.items():
            failed = [one for one in cases if not passes(one, library)]
            print(f"  {name:12}{len(cases) - len(failed):4}")
            if library is not cowmask:
                print(*(f"    not {one}" for one in failed), sep="\n", end="\n" if failed else "")


if __name__ == "__main__":
    main()
