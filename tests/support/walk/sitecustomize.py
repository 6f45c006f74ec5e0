"""Notes in which files of the package one value is met, in every process that has this folder on its PYTHONPATH.

WALK says what is followed, ``patch`` or a number that the command line gives as a choice, or both with a comma between
them; files are written for each, WALK_FILE with its name behind.
"""

import os
import sys
import threading
from pathlib import Path
from typing import Any

FOLLOWED, FILE, PACKAGE = (os.environ.get(name, "") for name in ("WALK", "WALK_FILE", "WALK_PACKAGE"))
NUMBER = next((float(one) for one in FOLLOWED.split(",") if one not in ("", "patch")), None)


def is_patch(value: Any) -> bool:
    """Whether this is a table of stored patches, or images in batches."""
    kind = type(value)
    if kind in (list, tuple):
        return 0 < len(value) < 6 and any(map(is_patch, value))
    if kind.__module__.startswith("pyarrow"):
        return kind.__name__ in ("Table", "RecordBatch", "ChunkedArray")
    return kind.__name__ in ("Tensor", "ndarray") and value.ndim == 4


def is_setting(value: Any) -> bool:
    """Whether this is the number, a plain container of it, or the distribution or settings that it stands in."""
    kind = type(value)
    if kind is float:
        return value == NUMBER
    if kind is dict:
        return len(value) < 80 and any(map(is_setting, list(value.values())))
    if kind in (list, tuple):
        return len(value) < 40 and any(map(is_setting, value))
    if kind.__name__ == "CategoricalDistribution":
        return is_setting(value.choices)
    if kind.__name__ == "FrozenTrial":
        return is_setting(value.params)
    return kind.__name__ == "Search" and value.ssim_weight == NUMBER


if FOLLOWED:
    tests = {one: is_patch if one == "patch" else is_setting for one in FOLLOWED.split(",")}
    last = dict.fromkeys(tests, "")

    def note(frame: Any, event: str, argument: Any) -> None:
        """Write down a file of the package whose function is called with a value or ends with it."""
        if event not in ("call", "return"):
            return
        name = frame.f_code.co_filename
        if not name.startswith(PACKAGE):
            return
        for one, is_met in tests.items():
            if name != last[one] and (any(map(is_met, list(frame.f_locals.values()))) or is_met(argument)):
                last[one] = name
                with open(f"{FILE}-{one}", "a", encoding="utf-8") as file:
                    file.write(f"{Path(name).relative_to(PACKAGE)}\n")

    class Beginning:
        """Follows from the moment at which the package is imported: Ray's own processes never do that."""

        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            """Begin; the package is found by the others."""
            if name == "irnas_ray":
                sys.meta_path.remove(self)
                sys.setprofile(note)
                threading.setprofile(note)

    sys.meta_path.insert(0, Beginning())
