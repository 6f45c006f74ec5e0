"""No two purposes draw the same random numbers, whatever the seeds of trials, searches and trainings are."""

from itertools import product

import torch
from hypothesis import given
from hypothesis import strategies as st

from irnas_ray.datasets.batches import ResidentPatches, TrainingBatches
from irnas_ray.degradations.gaussian import GaussianNoise
from irnas_ray.system.random_streams import stream_seed

PURPOSES = [("search", "weights"), ("search", "train_w"), ("search", "train_a"), ("short training",), ("final",)]
words = st.lists(st.text(max_size=5) | st.integers(0, 9), max_size=4)


@given(st.integers(0, 2**70), st.integers(0, 2**70), words, words)
def test_seeds_are_equal_for_equal_purposes_alone(first, second, own, others):
    seed, other = stream_seed(first, *own), stream_seed(second, *others)
    assert 0 <= seed < 2**63 and (seed == other) == ((first, own) == (second, others))


def test_a_seed_is_the_same_in_every_release():
    """The trials of a study that goes on after an upgrade see what they would have seen."""
    assert stream_seed(0, "search", "train_w") == 7342311217245095630


def test_streams_of_neighbouring_seeds_share_nothing():
    """A search took seeds 2 s and 2 s + 1 and its short trainings s, and noise the seed after that of the crops."""
    clean = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    states = set()
    for seed, purpose in product(range(30), PURPOSES):
        own = stream_seed(seed, *purpose)
        batches = TrainingBatches(ResidentPatches(clean, None, 2, own), 8, GaussianNoise([1]), own)
        states |= {bytes(batches.geometry.get_state()), bytes(batches.noise.get_state())}
    for seed in range(30):  # as a user of these classes counts them
        batches = TrainingBatches(ResidentPatches(clean, None, 2, seed), 8, GaussianNoise([1]), seed)
        states |= {bytes(batches.geometry.get_state()), bytes(batches.noise.get_state())}
    assert len(states) == 2 * 30 * (len(PURPOSES) + 1)
