"""From the settings of a study to its networks: the supernet that is searched, and the final network of a genotype."""

from dataclasses import asdict

import torch

from irnas_ray.genotypes.encoding import Encoding
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.derived import DerivedNetwork
from irnas_ray.networks.operators import DeformableConvolution
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.settings.study import StudyConfig


def make_supernet(settings: StudyConfig) -> SuperNet:
    """The supernet that the settings describe; ValueError naming the setting that is impossible."""
    return SuperNet(**asdict(settings.architecture))


def make_network(genotype: Genotype, settings: StudyConfig) -> DerivedNetwork:
    """The final network that the settings describe; ValueError naming the setting that is impossible."""
    architecture, final = settings.architecture, settings.final
    network = DerivedNetwork(
        genotype,
        channels=architecture.channels,
        width=final.width,
        residual=architecture.residual,
        activation=architecture.activation,
        sep_repeats=architecture.sep_repeats,
        stem_channels=final.stem_channels,
        aspp_channels=final.aspp_channels,
        low_level_channels=final.low_level_channels,
    )
    deformable = any(isinstance(module, DeformableConvolution) for module in network.modules())
    # a training step on one busy CPU core: 44 ms instead of 68 without deformable convolution, but slower with it
    return network if deformable else network.to(memory_format=torch.channels_last)


def make_encoding(settings: StudyConfig) -> Encoding:
    """The genotypes that the settings describe; ValueError naming the setting that is impossible."""
    return Encoding.of(settings.architecture)
