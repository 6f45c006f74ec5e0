"""Networks without a genotype: DnCNN is the published one, and a network of the user's own is safe and comes back."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from irnas_ray.networks.checkpoints import load_network, load_state, save_network, save_state
from irnas_ray.networks.derived import count_parameters
from irnas_ray.networks.dncnn import DnCNN
from irnas_ray.networks.inference import restore
from irnas_ray.networks.registry import describe_network, make_peer, multiply_adds
from irnas_ray.networks.user_network import UserNetwork, import_class

MODULE = '''
import pathlib
import torch
from torch import nn

pathlib.Path(__file__).with_name("imported").touch()

class Blur(nn.Module):
    """Half resolution and back, so that weights count for fewer pixels."""

    def __init__(self, channels, width=4):
        super().__init__()
        self.down = nn.Conv2d(channels, width, 2, stride=2)
        self.up = nn.ConvTranspose2d(width, channels, 2, stride=2)

    def forward(self, image):
        return self.up(self.down(image))

class Plain(nn.Conv2d):
    def __init__(self):
        super().__init__(1, 1, 1)

class Half(Blur):
    def forward(self, image):
        return self.down(image)

class Broken(Plain):
    def forward(self, image):
        raise RuntimeError("no such layer")

number = 3
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's module `own_networks`, not imported yet; the file that its import leaves behind."""
    (tmp_path / "own_networks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)
    return tmp_path / "imported"


def published_size(channels: int, depth: int, width: int) -> int:
    """Weights and biases of DnCNN, layer by layer."""
    first, last = 9 * channels * width + width, 9 * width * channels
    return first + (depth - 2) * (9 * width * width + 2 * width) + last


@pytest.mark.parametrize("arguments", [(1, 17, 64), (3, 20, 64), (1, 2, 1), (1, 17, 22)])
def test_dncnn_has_the_published_layers(arguments):
    channels, depth, width = arguments
    network = DnCNN(channels, depth, width)
    assert count_parameters(network) == published_size(*arguments)
    kinds = [type(layer) for layer in network.layers]
    block = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert kinds == [nn.Conv2d, nn.ReLU, *block * (depth - 2), nn.Conv2d]
    assert multiply_adds(network) == 9 * (2 * channels * width + (depth - 2) * width**2)


def test_dncnn_has_the_published_size():
    assert count_parameters(DnCNN(1)) == 556_096


def test_dncnn_takes_the_predicted_noise_from_the_image():
    network, image = DnCNN(3, 4, 5).eval(), torch.rand(2, 3, 7, 9)
    with torch.no_grad():
        assert torch.equal(network(image), image)  # untrained
        network.layers[-1].weight.normal_()
        noise = network.layers(image)
        assert torch.equal(network(image), image - noise) and noise.abs().max() > 0


@pytest.mark.parametrize(("name", "value"), [("channels", 0), ("depth", 1), ("width", 0)])
def test_a_dncnn_that_is_impossible_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: {value}; at least"):
        DnCNN(**({"channels": 1} | {name: value}))


def test_dncnn_comes_back_from_its_file_and_restores(tmp_path):
    torch.manual_seed(0)
    network = make_peer("dncnn", 1, {"depth": 3, "width": 4})
    nn.init.normal_(network.layers[-1].weight)
    network(torch.rand(2, 1, 8, 8))
    save_network(network, tmp_path / "network.pt", {"sigma": 50})
    loaded, notes = load_network(tmp_path / "network.pt")
    assert type(loaded) is DnCNN and loaded.arguments() == {"channels": 1, "depth": 3, "width": 4}
    assert notes == {"sigma": 50} and not loaded.training
    image = torch.rand(1, 13, 17)
    assert torch.equal(restore(loaded, image), restore(network, image))


def test_a_users_network_comes_back_only_where_the_caller_names_it(tmp_path, module):
    torch.manual_seed(0)
    network = make_peer("own_networks:Blur", 3, {"width": 2})
    assert isinstance(network, UserNetwork) and network.arguments() == {"channels": 3, "width": 2}
    path, image = tmp_path / "network.pt", torch.rand(3, 12, 16)
    save_network(network, path)
    assert set(load_state(path)["weights"]) == set(network.network.state_dict())
    module.unlink()
    del sys.modules["own_networks"]
    with pytest.raises(ValueError, match=r"network.pt: .*'own_networks:Blur'.*network_class=own_networks:Blur"):
        load_network(path)
    assert not module.exists(), "loading a file imported the module that it names"
    expected = restore(network, image)
    for given in ("own_networks:Blur", import_class("own_networks:Blur")):
        loaded, _ = load_network(path, network_class=given)
        assert loaded.channels == 3 and torch.equal(restore(loaded, image), expected)
    with pytest.raises(ValueError, match="network.pt: .*do not fit"):
        load_network(path, network_class="own_networks:Half")


@pytest.mark.parametrize("name", ["os.system", "os:", ":system", "own networks:Blur", 7, None, "dncn"])
def test_a_file_with_a_damaged_name_is_refused(tmp_path, name):
    save_network(DnCNN(1, 2, 1), tmp_path / "network.pt")
    save_state(load_state(tmp_path / "network.pt") | {"network": name}, tmp_path / "network.pt")
    with pytest.raises(ValueError, match="network.pt: "):
        load_network(tmp_path / "network.pt", network_class=DnCNN)


def test_channels_are_passed_only_where_they_are_taken(module):
    assert make_peer("own_networks:Plain", 1, {}).arguments() == {"channels": 1}
    with pytest.raises(ValueError, match="network: own_networks:Plain fails on an image .1, 3, 64, 64"):
        make_peer("own_networks:Plain", 3, {})


def test_multiply_adds_of_a_users_network_count_the_pixels_of_each_layer(module):
    # a quarter of the pixels, 2x2 weights; then each of those makes four pixels
    assert multiply_adds(make_peer("own_networks:Blur", 3, {"width": 8})) == 3 * 8 * 4 // 4 + 3 * 8


WRONG = [
    ("dncn", {}, "unknown 'dncn'; possible: genotype, dncnn, or your own as package.module:Class"),
    ("dncnn", {"dept": 3}, "network_arguments: dncnn cannot be built with .*dept"),
    ("dncnn", {"depth": 1}, "network_arguments: dncnn .*depth: 1; at least 2"),
    ("dncnn", {"channels": 3}, "network_arguments: channels follows"),
    ("own_networks:Blur", {"wide": 3}, "network_arguments: own_networks:Blur cannot be built .*wide"),
    ("own_networks:Half", {}, r"makes \(1, 4, 32, 32\) of an image \(1, 1, 64, 64\)"),
    ("own_networks:Broken", {}, "own_networks:Broken fails .*RuntimeError: no such layer"),
    ("own_networks:Missing", {}, "own_networks:Missing cannot be imported .*install it, or .*PYTHONPATH"),
    ("own_networks:number", {}, "own_networks:number is not a class"),
    ("no_such_module:Net", {}, "no_such_module:Net cannot be imported"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), WRONG)
def test_a_wrong_network_is_named(module, name, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_peer(name, 1, arguments)


def test_any_other_module_is_not_saved():
    with pytest.raises(TypeError, match="Conv2d cannot be saved as a network; wrap it in UserNetwork"):
        describe_network(nn.Conv2d(1, 1, 1))
