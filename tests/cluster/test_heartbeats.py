"""Signs of life: for whom a worker gave them last, and how little their process has to load."""

import subprocess
import sys

from irnas_ray.cluster.heartbeats import Heartbeats


def test_a_process_works_for_the_trial_for_which_it_gave_a_sign_last() -> None:
    """Killing the workers of the one that it worked for before must not end the other."""
    signs = Heartbeats.__ray_metadata__.modified_class()
    signs.beat("a", "shared", "its handle")
    signs.beat("b", "shared", "its handle")
    signs.beat("a", "own", "another handle")
    assert signs.take_workers("a") == ["another handle"] and signs.take_workers("a") == []
    assert signs.take_workers("b") == ["its handle"] and signs.counts() == {"a": 2, "b": 1}


def test_its_process_does_without_torch_and_tune() -> None:
    """They would take an import of three seconds and 500 MB beside every study."""
    program = (
        "import irnas_ray.cluster.heartbeats, sys;"
        " print([name for name in ('torch', 'ray.tune', 'pandas') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
