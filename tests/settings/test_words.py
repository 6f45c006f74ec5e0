"""Settings that are one of some words: others are refused, and the words are those that something is made of."""

from collections.abc import Collection
from typing import Any

import pytest
from command_line_cases import COMMANDS, words

from irnas_ray.degradations.downscale import FACTORS
from irnas_ray.degradations.factory import KINDS
from irnas_ray.evaluation.metrics import BORDERS
from irnas_ray.export.file_formats import FORMATS
from irnas_ray.genotypes.macro import HEADS, NORMALISATIONS, UNSHUFFLES
from irnas_ray.hpo.methods import METHODS
from irnas_ray.hpo.objectives import OBJECTIVES
from irnas_ray.hpo.samplers import SAMPLERS
from irnas_ray.images.files import COLORS
from irnas_ray.images.sources import FORMS
from irnas_ray.networks.operators import ACTIVATIONS
from irnas_ray.settings.bounds import check_bounds
from irnas_ray.settings.study import SUPERNETS
from irnas_ray.training.optimizers import OPTIMIZERS
from irnas_ray.training.precision import PRECISIONS
from irnas_ray.training.schedules import SCHEDULES
from irnas_ray.tune.loggers import LOGGERS

#: Key of a setting -> the words of whoever makes something of it; the settings stand below them and have them again.
REGISTRIES: dict[str, Collection[Any]] = {
    "architecture.activation": ACTIVATIONS,
    "architecture.unshuffle": UNSHUFFLES,
    "architecture.normalisation": NORMALISATIONS,
    "architecture.head": HEADS,
    "data.form": FORMS,
    "data.color": COLORS,
    "degradation.kind": KINDS,
    "degradation.downscale.factor": FACTORS,
    "search.method": {*SUPERNETS, *METHODS},
    "final.optimizer": OPTIMIZERS,
    "final.schedule": SCHEDULES,
    "final.precision": PRECISIONS,
    "tune.sampler": SAMPLERS,
    "tune.objectives": OBJECTIVES,
    "tune.loggers": LOGGERS,
    "format": FORMATS,
    "ssim": BORDERS,
}


CASES = [(name, key, possible) for name, kind in COMMANDS.items() for key, possible in words(kind()).items()]


@pytest.mark.parametrize(("name", "key", "possible"), CASES)
def test_an_unknown_word_is_refused_with_the_possible_ones(name: str, key: str, possible: tuple[Any, ...]) -> None:
    settings: Any = COMMANDS[name]()
    check_bounds(settings)
    *sections, last = key.split(".")
    section = settings
    for part in sections:
        section = getattr(section, part)
    shown = ", ".join("null" if word is None else str(word) for word in possible)
    for value, wrong in (("other", "'other'"), (True, "True"), (1.0, "1.0"), (["other"], "'other'")):
        setattr(section, last, value)
        with pytest.raises(ValueError) as caught:
            check_bounds(settings)
        assert str(caught.value) == f"{key}: unknown {wrong}; possible: {shown}"


def test_the_words_of_settings_are_those_that_something_is_made_of() -> None:
    found = {key: set(possible) for _, key, possible in CASES}
    assert {key: set(known) for key, known in REGISTRIES.items()} == {key: found[key] for key in REGISTRIES}
