"""What cowmask and other libraries of augmentations can do, found by running them.

python -m benchmarks.compare --write docs/compare.md

A *road* is one documented way to use one transform of a library (`roads.py`; one file a library in `libraries/`). A
*probe* sends a batch down a road and looks at what comes out (`probes.py`). A cell of the page is the best that any
road of the library does (`cells.py`).
"""
