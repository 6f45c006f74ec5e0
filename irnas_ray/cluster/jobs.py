"""Working inside a Ray job, which runs in a temporary copy of the folder that was submitted."""

import os
from pathlib import Path

from irnas_ray.cluster.internals import COPIES, JOB
from irnas_ray.settings.study import StudyConfig
from irnas_ray.system.urls import is_url


def in_copy() -> bool:
    """Whether this process is the driver of a job that runs in a copy which Ray will delete."""
    return JOB in os.environ and COPIES in Path.cwd().parts


def check_places(config: StudyConfig) -> None:
    """ValueError if a job would write what must last into the temporary copy of its folder."""
    if not in_copy():
        return
    written = {"results": config.results, "data.output": config.data.output, "cluster.storage": config.cluster.storage}
    storage = config.tune.storage or ""
    if storage.startswith("journal:"):
        written["tune.storage"] = storage.removeprefix("journal:")
    for key, place in written.items():
        if place is not None and not is_url(place) and not Path(place).is_absolute():
            raise ValueError(
                f"{key}: {place!r} is relative, and this job runs in a temporary copy of its folder that Ray deletes; "
                "give a full path on a disk that all nodes share"
            )
