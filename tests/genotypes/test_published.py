"""The genotypes that ship with the package are the paper's cells, and their networks have the stated sizes."""

import re

import pytest
import torch

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.genotypes.published import load_genotype, published_names
from irnas_ray.networks.derived import DerivedNetwork, count_parameters

DENOISING = "n0 conv<-0 conv<-1 | n1 dil<-2 dil<-1 | n2 skip<-0 def<-2 | n3 def<-4 def<-0 | n4 skip<-5 skip<-1"
DERAINING = "n0 def<-1 skip<-0 | n1 def<-0 conv<-1 | n2 def<-2 skip<-0 | n3 def<-2 conv<-1"
#: Channels of the 3x3 convolution, with bias, that a deformable one has more than a plain one: 18 offsets and 9 masks.
OFFSETS = 27
#: Name -> cell as figure 6 has it, and as its captions change it; width path; image channels, basic width; parameters.
PAPER = {
    "irnas_denoise": (DENOISING, (0, 0, 1, 1), (1, 20), 628_325),
    "irnas_denoise_r1": (
        DENOISING.replace("conv<-0 conv<-1", "def<-0 def<-1"),
        (0, 0, 1, 1),
        (1, 20),
        628_325 + 2 * OFFSETS * (9 * 120 + 4),
    ),
    "irnas_denoise_r2": (DENOISING.replace("def<-4 def<-0", "def<-3 def<-1"), (0, 0, 1, 1), (1, 20), 628_325),
    "irnas_derain": (DERAINING, (0, 0, 1), (3, 15), 358_823),
    "irnas_derain_r1": (DERAINING.replace("conv", "def"), (0, 0, 1), (3, 15), 358_823 + 2 * OFFSETS * (9 * 60 + 3)),
    "irnas_derain_r2": (DERAINING.replace("n3 def<-2 conv<-1", "n3 def<-4 conv<-0"), (0, 0, 1), (3, 15), 358_823),
}


def cell_of(text: str) -> tuple[tuple[Edge, Edge], ...]:
    """A cell from the words in which the paper's figure is written down."""
    found = re.findall(r"n\d (\w+)<-(\d) (\w+)<-(\d)", text)
    return tuple((Edge(int(first), one), Edge(int(second), other)) for one, first, other, second in found)


def test_exactly_the_papers_cells_ship():
    assert published_names() == sorted(PAPER)


@pytest.mark.parametrize("name", PAPER)
def test_a_published_genotype_is_the_papers(name):
    text, levels, (channels, width), parameters = PAPER[name]
    genotype = load_genotype(name)
    assert genotype == Genotype((cell_of(text),), levels)
    assert levels[-1] == max(levels) > min(levels)  # section 4.3: the cell next to the output is the widest
    with torch.device("meta"):
        assert count_parameters(DerivedNetwork(genotype, channels, width)) == parameters


def test_the_denoisers_path_is_a_smallest_that_gives_the_papers_size():
    cell = cell_of(DENOISING)
    with torch.device("meta"):
        sizes = {
            levels: round(count_parameters(DerivedNetwork(Genotype((cell,), levels), 1, 20)) / 1e6, 2)
            for levels in ((0, 0, 0, 1), (0, 0, 1, 1), (0, 1, 0, 1), (1, 0, 0, 1), (0, 1, 1, 1), (0, 0, 1, 2))
        }
    assert [levels for levels, size in sizes.items() if size == 0.63] == [(0, 0, 1, 1), (0, 1, 0, 1), (1, 0, 0, 1)]


def test_a_file_is_read_where_no_genotype_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Genotype((cell_of("n0 conv<-0 skip<-1"),), (0,))
    own.save("irnas_denoise")
    assert load_genotype("./irnas_denoise") == own
    assert load_genotype("irnas_denoise").nodes == 5
    with pytest.raises(ValueError, match="genotype 'irnas': no such file, .*names: irnas_denoise, irnas_denoise_r1"):
        load_genotype("irnas")
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(ValueError, match="genotype file broken.json: .*format"):
        load_genotype("broken.json")
