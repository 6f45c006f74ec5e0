"""Which compiled library is loaded: one that was compiled from the sources beside the package, wherever it lies."""

import ctypes
import shutil
import warnings
from pathlib import Path

import pytest

from irnas_ray.kernels import compiled

pytestmark = pytest.mark.skipif(not compiled.available, reason="the package was installed without a C compiler")


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sources alone, as in a clone into which nothing was compiled."""
    for source in compiled.FOLDER.glob("*.[ch]"):
        shutil.copy(source, tmp_path)
    # the library itself may lie in this checkout, which need not be on the path
    monkeypatch.syspath_prepend(compiled.FOLDER.parents[1])
    monkeypatch.setattr(compiled, "FOLDER", tmp_path)
    return tmp_path


def test_a_clone_uses_the_library_of_the_package_that_it_hides(clone: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled._load() is not None


def test_a_library_of_other_sources_is_not_used_and_the_user_is_told(clone: Path) -> None:
    with (clone / "vectors.h").open("a") as header:
        header.write("/* changed since then */\n")
    with pytest.warns(UserWarning, match=r"_native.* was compiled from other sources .*run pip install again"):
        assert compiled._load() is None


def test_a_library_that_does_not_say_from_what_is_not_used(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of earlier releases, whose functions take other arguments."""
    monkeypatch.setattr(compiled, "_open", lambda path: ctypes.CDLL(None))
    with pytest.warns(UserWarning):
        assert compiled._load() is None


def test_a_named_library_is_taken_at_its_word(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ctypes.CDLL(None)
    monkeypatch.setattr(compiled, "_open", {"/tmp/own.so": own}.__getitem__)
    monkeypatch.setenv("IRNAS_RAY_NATIVE", "/tmp/own.so")
    assert compiled._load() is own
    monkeypatch.setenv("IRNAS_RAY_NATIVE", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled._load() is None


def test_a_named_library_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRNAS_RAY_NATIVE", "/absent.so")
    with pytest.warns(UserWarning, match="IRNAS_RAY_NATIVE: /absent.so is no library that can be opened"):
        assert compiled._load() is None
