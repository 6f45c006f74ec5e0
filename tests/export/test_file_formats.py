"""What cannot stand in an exported file is named."""

import pytest
import torch

from irnas_ray.export.file_formats import FORMATS, written_as
from irnas_ray.networks.dncnn import DnCNN


@pytest.mark.parametrize("name", FORMATS)
def test_notes_that_json_cannot_hold_are_named(name: str) -> None:
    with pytest.raises(ValueError, match="notes: .*Tensor.*; save the network with text, numbers, lists or dicts"):
        written_as(name, DnCNN(channels=1, depth=2, width=1), {"sigma": torch.tensor(25)})
