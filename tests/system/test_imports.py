"""What imports do without: garbage is collected again afterwards, and not where it was not before."""

import gc
import runpy

import pytest

from irnas_ray.system.imports import collect_as_usual, uncollected


@pytest.mark.parametrize("before", [True, False])
def test_garbage_is_collected_afterwards_as_before(before: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if before else gc.disable)()
        with pytest.raises(ImportError), uncollected():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == before
    finally:
        (gc.enable if was else gc.disable)()


def test_workers_collect_rarely_until_a_training_begins() -> None:
    usual = gc.get_threshold()
    try:
        runpy.run_module("irnas_ray.system.rare_collection")
        assert gc.get_threshold()[0] > 10 * usual[0]
    finally:
        collect_as_usual()
    assert gc.get_threshold() == usual
