"""Files of tensors: what is saved comes back, a failed write keeps the old file, and nothing else is taken for one."""

import collections
import errno
import os
import pickle
import resource
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks import checkpoints
from irnas_ray.networks.checkpoints import load_network, load_state, save_network, save_state
from irnas_ray.networks.derived import DerivedNetwork
from irnas_ray.networks.user_network import UserNetwork

CELL = ((Edge(0, "def"), Edge(1, "conv")), (Edge(2, "skip"), Edge(0, "dil")))
ARGUMENTS: dict[str, Any] = {
    "channels": 3,
    "width": 2,
    "residual": True,
    "activation": "leaky_relu",
    "sep_repeats": 2,
    "stem_channels": 5,
    "aspp_channels": 4,
    "low_level_channels": 3,
}


def make_network() -> DerivedNetwork:
    """A network whose running statistics differ from their initial values."""
    torch.manual_seed(0)
    network = DerivedNetwork(Genotype((CELL,), (0, 1), (1, 1.5)), **ARGUMENTS)
    network(torch.rand(2, 3, 12, 12))
    return network


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A complete network.pt."""
    path = tmp_path / "network.pt"
    save_network(make_network(), path, {"sigma": 50, "protocol": "images-gray"})
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_network_comes_back_with_identical_outputs(saved):
    network, image = make_network().eval(), torch.rand(1, 3, 9, 14)
    loaded, notes = load_network(saved)
    assert notes == {"sigma": 50, "protocol": "images-gray"}
    assert not loaded.training and loaded.genotype == network.genotype and loaded.arguments() == ARGUMENTS
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))
    assert names(saved.parent) == ["network.pt"]


def test_torch_reads_the_file_without_running_code(saved):
    state = torch.load(saved, weights_only=True)
    assert set(state) == {"format", "version", "network", "genotype", "arguments", "notes", "weights"}
    assert Genotype.from_json(state["genotype"]) == make_network().genotype


def test_states_come_back_whole(tmp_path):
    state: dict[str, Any] = {
        "step": 3,
        "best": {},
        "loss": float("nan"),
        "names": ["a"],
        "tensor": torch.arange(4),
        "none": None,
    }
    save_state(state, tmp_path / "new" / "state.pt")
    loaded = load_state(str(tmp_path / "new" / "state.pt"))
    assert torch.equal(loaded["tensor"], state["tensor"]) and loaded.keys() == state.keys()
    assert (loaded["step"], loaded["best"], loaded["names"], loaded["none"]) == (3, {}, ["a"], None)


def test_truncated_files_are_refused_by_name(saved):
    content = saved.read_bytes()
    short = saved.with_name("short.pt")
    ends = {0, 1, 2, 3, 4, 5, 29, 30, 64, len(content) - 1, len(content) - 22, *range(100, len(content), 997)}
    for end in sorted(ends):
        short.write_bytes(content[:end])
        with pytest.raises(ValueError, match="short.pt: is truncated, damaged, or no file"):
            load_network(short)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40) | st.builds(lambda tail: b"\x80\x02" + tail, st.binary(max_size=40)))
def test_any_other_bytes_are_refused_by_name(tmp_path, content):
    (tmp_path / "other.pt").write_bytes(content)
    with pytest.raises(ValueError, match="other.pt: "):
        load_network(tmp_path / "other.pt")


class Code:
    """Pickles as a call that writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_file_with_code_is_refused_and_the_code_not_run(tmp_path):
    proof = tmp_path / "proof"
    torch.save({"format": "irnas_ray.network", "code": Code(proof)}, tmp_path / "torch.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Code(proof)))
    for name in ("torch.pt", "pickle.pt"):
        with pytest.raises(ValueError, match=f"{name}: "):
            load_state(tmp_path / name)
        assert not proof.exists()


def test_what_is_no_checkpoint_is_refused_by_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    torch.save([1, 2], tmp_path / "list.pt")
    expected = {
        "other.zip": "is truncated, damaged, or no file",
        "list.pt": "holds no checkpoint",
        "missing.pt": "cannot be read .No such file",
        ".": "cannot be read .Is a directory",
    }
    for name, message in expected.items():
        with pytest.raises(ValueError, match=message) as caught:
            load_state(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_a_file_of_the_first_version_is_a_genotypes_network(saved):
    old = load_state(saved) | {"version": 1}
    assert old.pop("network") == "genotype"
    save_state(old, saved)
    assert load_network(saved)[0].genotype == make_network().genotype


def changed(state: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    return {name: old for name, old in state.items() if name != key} | ({} if value is None else {key: value})


CHANGES: list[tuple[str, Any, str]] = [
    ("format", "other", "not a network.pt"),
    ("format", None, "not a network.pt"),
    ("version", 3, "version 3; this release reads versions up to 2"),
    ("version", torch.zeros(2), "this release reads versions up to 2"),
    ("network", "dncnn", "do not fit together"),
    ("network", "os:system", "os:system.*not run unasked"),
    ("weights", {}, "do not fit together"),
    ("weights", None, "'weights'"),
    ("weights", [1], "do not fit together"),
    ("weights", {5: 1}, "do not fit together"),
    ("genotype", "{}", "do not fit together"),
    ("genotype", 5, "do not fit together"),
    ("arguments", {"channels": 1}, "width"),
    ("arguments", changed(ARGUMENTS, "width", 4), "size mismatch"),
    ("arguments", changed(ARGUMENTS, "width", 3), "width: 3 times 1.5"),
    ("arguments", changed(ARGUMENTS, "width", 10**5), "at most 1e.09 are built"),
    ("arguments", changed(ARGUMENTS, "width", 10**6), "width: 1000000 times 1.5 .*at most 1000000 channels"),
    ("genotype", make_network().genotype.to_json().replace("1.5", "1e300"), "multipliers: 1e.300; .*at most 1000000"),
    ("arguments", 7, "do not fit together"),
    ("arguments", changed(ARGUMENTS, "activation", "tanh"), "activation"),
]


@pytest.mark.parametrize("notes", [None, ["sigma"], "sigma", 5], ids=str)
def test_notes_that_are_no_dict_are_refused(saved: Path, notes: Any) -> None:
    save_state(load_state(saved) | {"notes": notes}, saved)
    with pytest.raises(ValueError, match=r"network.pt: notes: .* are no dict; the file is damaged"):
        load_network(saved)


UNREADABLE: list[tuple[dict[str, Any], str]] = [
    ({"sigma": 50, "a": Path("x")}, r"notes\['a'\]: PosixPath\('x'\) could not be loaded again; give text, numbers"),
    ({"a": {"b": [Path("x")]}}, r"notes\['a'\]: {'b': "),
    ({"a": {Path("x"): 1}}, r"notes\['a'\]: {PosixPath\('x'\): 1}"),
    ({"a": np.float64(1)}, r"notes\['a'\]: .*1.0"),
    ({"a": print}, r"notes\['a'\]: <built-in function print>"),
]


@pytest.mark.parametrize(("notes", "message"), UNREADABLE, ids=str)
def test_notes_that_could_not_be_loaded_again_are_not_saved(saved: Path, notes: dict[str, Any], message: str) -> None:
    old = saved.read_bytes()
    with pytest.raises(TypeError, match=message):
        save_network(make_network(), saved, notes)
    assert saved.read_bytes() == old and names(saved.parent) == ["network.pt"]


def test_arguments_that_could_not_be_loaded_again_are_not_saved(tmp_path: Path) -> None:
    network = UserNetwork(torch.nn.LeakyReLU, 1, negative_slope=np.float64(0.1))
    with pytest.raises(TypeError, match=r"arguments\['negative_slope'\]: .*0.1.* could not be loaded again"):
        save_network(network, tmp_path / "network.pt")
    assert names(tmp_path) == []


def test_every_kind_of_note_that_torch_reads_comes_back(saved: Path) -> None:
    notes = {"text": "a", "none": None, "pair": (1, [2.5, True]), "dict": {"1": {2: 3}}, "tensor": torch.arange(2)}
    save_network(make_network(), saved, collections.defaultdict(lambda: 0, notes))
    loaded = load_network(saved)[1]
    assert type(loaded) is dict and torch.equal(loaded.pop("tensor"), notes.pop("tensor")) and loaded == notes


@pytest.mark.parametrize(("key", "value", "message"), CHANGES)
def test_networks_whose_parts_do_not_fit_are_refused(saved, key, value, message):
    save_state(changed(load_state(saved), key, value), saved)
    with pytest.raises(ValueError, match=f"network.pt: .*{message}"):
        load_network(saved)


def fail_with(error: Exception) -> Any:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise error

    return fail


FULL = OSError(errno.ENOSPC, "No space left on device")
FAILURES: list[tuple[Any, str, Exception]] = [(os, "replace", FULL), (os, "fsync", FULL), (torch, "save", FULL)]
FAILURES += [(torch, "save", RuntimeError("PytorchStreamWriter failed writing file data/0"))]


@pytest.mark.parametrize(("module", "function", "error"), FAILURES)
def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_else(saved, monkeypatch, module, function, error):
    old = saved.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, function, fail_with(error))
        with pytest.raises(OSError, match=f"cannot write {saved}.*the old file is kept"):
            save_state({"new": 1}, saved)
    assert saved.read_bytes() == old and names(saved.parent) == ["network.pt"]


def test_a_full_disk_is_named_as_the_system_names_it(saved):
    old, limits = saved.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"network.pt \(File too large\); free space or choose") as caught:
            save_state({"new": torch.zeros(100_000)}, saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG and saved.read_bytes() == old and names(saved.parent) == ["network.pt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), AttributeError("Can't pickle local object")])
def test_an_interrupted_write_leaves_nothing_behind(saved, monkeypatch, error):
    def write_half(state: Any, file: Any) -> None:
        file.write(b"half")
        raise error

    old = saved.read_bytes()
    monkeypatch.setattr(checkpoints.torch, "save", write_half)
    with pytest.raises(type(error)):
        save_state({"new": 1}, saved)
    assert saved.read_bytes() == old and names(saved.parent) == ["network.pt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=f"cannot write {tmp_path / 'file' / 'network.pt'}"):
        save_network(make_network(), tmp_path / "file" / "network.pt")
