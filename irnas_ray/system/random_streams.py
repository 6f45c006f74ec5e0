"""Which random numbers what draws: one tree of streams below each seed, with a branch for every purpose."""

import hashlib
import json


def stream_seed(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2**63) for one purpose under a user's seed: the same on every machine, and no other purpose's.

    What draws under seeds that are near each other (those of two trials, or a search's and its short trainings') so
    shares no random numbers, as ``seed + 1`` or ``2 * seed`` would make it share.

    >>> from irnas_ray.system.random_streams import stream_seed
    >>> stream_seed(0, "search", "train_w") == stream_seed(0, "search", "train_w")
    True
    >>> len({stream_seed(seed, name) for seed in range(100) for name in ("order", "noise")})
    200
    """
    return int.from_bytes(hashlib.sha256(json.dumps([seed, *purpose]).encode()).digest()[:8], "big") >> 1
