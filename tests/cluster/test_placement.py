"""What fits where: packing as arithmetic, and a real cluster of unequal nodes with made-up GPUs."""

import json
import subprocess
import sys

import pytest

from irnas_ray.cluster.placement import Node, check_gpus, explain_waiting, fitting, gpu_share

GIB = 2**30


@pytest.mark.parametrize(
    ("needed", "totals", "share"),
    [
        (10, [80], 0.125),
        (10, [80, 40], 0.25),
        (40.1, [80], 1.0),
        (40, [80], 0.5),
        (27, [80, 81], 0.5),
        (26, [80], 0.3333),
        (13, [80], 0.1666),
        (100, [80], 1.0),
        (float("inf"), [80], 1.0),
    ],
)
def test_as_many_trials_share_a_gpu_as_the_smallest_holds(needed: float, totals: list[float], share: float) -> None:
    """1/floor(total/need), rounded down so that all of them fit as Ray counts; a whole one where not even one fits."""
    assert gpu_share(needed * GIB, [total * GIB for total in totals]) == share
    together = int(1 / share)
    assert fitting({"cpu": 0, "gpu": share}, 0, 1) == together
    assert together == 1 or together * needed <= min(totals)


@pytest.mark.parametrize(
    ("cpus", "gpus", "resources", "fit"),
    [
        (2, 0, (4, 1), 0),
        (8, 1, (4, 1), 1),
        (8, 4, (4, 1), 2),
        (64, 2, (1, 0.4), 4),  # two on each GPU; the fifth would lie across both
        (64, 2, (1, 0.3333), 6),
        (64, 1, (1, 0.1), 10),
        (64, 3, (1, 2), 1),
        (3, 0, (1, 0), 3),
    ],
)
def test_how_many_fit_one_node(cpus: int, gpus: int, resources: tuple[float, float], fit: int) -> None:
    assert fitting({"cpu": resources[0], "gpu": resources[1]}, cpus, gpus) == fit


@pytest.mark.parametrize("value", [-1, 1.5, "all", True, float("nan"), 1e-6])
def test_impossible_shares_are_named(value: object) -> None:
    with pytest.raises(ValueError, match="cluster.gpus_per_trial"):
        check_gpus(value)


@pytest.mark.parametrize("value", [None, 0, 0.25, 1, 2.0, "auto"])
def test_possible_shares(value: object) -> None:
    check_gpus(value)


def test_waiting_is_explained_by_what_each_node_has_free() -> None:
    wanted = {"cpu": 4.0, "gpu": 1.0}
    busy, small = Node("10.0.0.1", 8, 1, 4, 0), Node("10.0.0.2", 2, 0, 2, 0)
    text = explain_waiting(2, wanted, [busy, small], 40)
    assert "2 trials have waited for 40 s for 4 CPUs and 1 GPU on one node" in text
    assert "10.0.0.1 has 4 of 8 CPUs, 0 of 1 GPUs free; 10.0.0.2 has 2 of 2 CPUs, no GPU free" in text
    assert "held by other" in text
    assert "no node that is left is large enough" in explain_waiting(1, wanted, [small], 40)
    assert "there is room" in explain_waiting(1, wanted, [Node("a", 8, 1, 8, 1)], 40)


# What follows runs in a process of its own: a process can be connected to one cluster only, and other tests are.
UNEQUAL = """
import json, os, sys, tempfile, threading, time
import ray
from ray import tune
from ray.cluster_utils import Cluster as TestCluster
from irnas_ray.cluster.placement import nodes, slots, trial_resources
from irnas_ray.progress.callback import StageProgress
from irnas_ray.cluster.connection import quiet
from irnas_ray.settings.study import Cluster

cluster = TestCluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0, "include_dashboard": False})
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
cluster.add_node(num_cpus=2, num_gpus=1)
cluster.wait_for_nodes()

def message(**settings):
    try:
        return trial_resources(Cluster(**settings))
    except ValueError as error:
        return str(error)

found = {
    "split": message(cpus_per_trial=4, gpus_per_trial=1),
    "fits": message(cpus_per_trial=2, gpus_per_trial=1),
    "default": message(cpus_per_trial=1),
    "auto": message(cpus_per_trial=1, gpus_per_trial="auto"),
    "cpu slots": slots({"cpu": 1.0, "gpu": 0.0}, None),
    "gpu slots": slots({"cpu": 1.0, "gpu": 0.25}, None),
    "odd slots": slots({"cpu": 3.0, "gpu": 0.0}, None),
    "at most": slots({"cpu": 1.0, "gpu": 0.0}, 3),
}
print(json.dumps(found))
cluster_nodes = sorted((node.cpus, node.gpus, node.free_gpus) for node in nodes())
print(json.dumps(cluster_nodes))

quiet()
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
# another program holds the GPU for a while
holder = ray.remote(num_gpus=1, num_cpus=0)(lambda: time.sleep(5)).remote()
while any(node.free_gpus for node in nodes()):
    time.sleep(0.1)
progress = StageProgress("search", 1, "score")
progress.waiting.patience = 1.0

def trial(config):
    tune.report({"score": 1.0, "progress": "end", "finished": True})

tune.Tuner(
    tune.with_resources(trial, {"cpu": 1, "gpu": 1}),
    run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), callbacks=[progress], verbose=0),
).fit()
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.whole
def test_a_cluster_of_unequal_nodes() -> None:
    """Two nodes of 2 CPUs, one with a GPU, hold no trial of 4 CPUs and one GPU, though their totals would."""
    (found, living), lines = run_apart(UNEQUAL)
    assert "4 CPUs and 1 GPUs on one node, but no node has as many" in found["split"]
    assert "2 CPUs, 0 GPUs" in found["split"] and "2 CPUs, 1 GPUs" in found["split"]
    assert found["fits"] == {"cpu": 2.0, "gpu": 1.0}
    assert found["default"] == found["auto"] == {"cpu": 1.0, "gpu": 1.0}
    assert found["cpu slots"] == 4 and found["gpu slots"] == 2  # the CPUs beside the GPU are two
    assert found["odd slots"] == 1  # none fits; never less than one, and trial_resources says what is wrong
    assert found["at most"] == 3
    assert living == [[2, 0, 0], [2, 1, 1]]

    # a trial that waits for what another program holds says so, once, and runs when it is free
    told = [line for line in lines if "waited" in line]
    assert len(told) == 1, lines
    assert "for 1 CPU and 1 GPU on one node" in told[0] and "0 of 1 GPUs free" in told[0]
    assert "2 of 2 CPUs, no GPU free" in told[0] and "held by other" in told[0]
    assert "finished  1.00" in lines[-1] and lines.index(told[0]) < len(lines) - 1


def run_apart(program: str) -> tuple[list, list[str]]:
    """What a program prints: the values that are JSON, and all lines."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith(("{", "[[", '["'))], lines
