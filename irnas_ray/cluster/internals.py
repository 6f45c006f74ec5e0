"""What is used of Ray beyond its documented interface below ``tune``, whose ``internals`` says more."""

import ray

#: Set by Ray for the driver of a job: a job has no documented way to know that it is one.
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
#: The folder in which Ray unpacks what `ray job submit --working-dir` uploads; nothing else tells a copy from a place
#: that lasts.
COPIES = "working_dir_files"


def free_resources() -> dict[str, dict[str, float]]:
    """Node id -> what nobody holds of its resources; `ray.available_resources` adds the nodes up."""
    return ray._private.state.available_resources_per_node()
