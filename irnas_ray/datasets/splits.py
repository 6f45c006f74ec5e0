"""Which training images train weights (W), which the architecture (A), and which validate (V)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """Ids of the training images that train weights (W), train the architecture (A), and validate (V)."""

    train_w: tuple[str, ...]
    train_a: tuple[str, ...]
    train_v: tuple[str, ...]


def split_training(ids: tuple[str, ...] | list[str], validation_fraction: float, seed: int) -> Split:
    """Split training images by a seed: max(1, round(fraction n)) validate, the rest is halved into W and A.

    The same ids in another order give the same split. ValueError for fewer than three images, or a fraction that is
    not in [0, 1); each part holds at least one image.
    """
    ids = sorted(set(ids))
    if len(ids) < 3:
        raise ValueError(f"{len(ids)} training images; the search needs at least 3 (weights, architecture, validation)")
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"data.validation_fraction is {validation_fraction}; it must be at least 0 and below 1")
    shuffled = [ids[index] for index in np.random.default_rng(seed).permutation(len(ids))]
    validating = min(max(1, round(validation_fraction * len(ids))), len(ids) - 2)
    half = validating + (len(ids) - validating + 1) // 2
    train_v, train_w, train_a = shuffled[:validating], shuffled[validating:half], shuffled[half:]
    return Split(tuple(sorted(train_w)), tuple(sorted(train_a)), tuple(sorted(train_v)))
