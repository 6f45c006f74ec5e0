"""Where Tune keeps the trials and checkpoints of a study: a folder that all nodes see, or an object store."""

import fnmatch
import json
import uuid
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow
import ray
from pyarrow.fs import FileSelector, FileSystem, FileType
from ray import cloudpickle, tune
from ray.tune import Result
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from irnas_ray.results.folder import StudyFolder
from irnas_ray.results.layout import FinalLayout
from irnas_ray.system.files import read_json, write_json
from irnas_ray.system.urls import join, split
from irnas_ray.tune.authorship import is_own
from irnas_ray.tune.internals import CHECKPOINT, ERROR, RECORDS, own_folder, recorded_trials
from irnas_ray.tune.moved_modules import moved_modules_found
from irnas_ray.tune.storage import open_storage

#: In the storage: the id of the study whose trials lie beside it. In the study's folder: that id, and the storage
#: where that is another one.
OWNER, CLAIM = "study.json", "storage.json"
#: In a trial's folder: what it was begun with.
BEGUN = "begun.json"
#: In a trial's folder, as Ray's documentation names it: a line of JSON for each of its reports.
REPORTS = "result.json"
#: How long a node may take to start a worker and look.
PROBE_SECONDS = 120


def claim_storage(folder: StudyFolder) -> None:
    """Tie a study for good to where its trials are kept, and see that every node reaches it.

    Trials that lie in the study's own folder move with it.

    ValueError if the storage cannot be written, if it holds the trials of another study of this name, if those of this
    one are kept elsewhere, or if a node of the cluster does not see it.
    """
    claim = folder.trials / CLAIM
    place = folder.storage if is_elsewhere(folder) else None
    known = read_json(claim) if claim.exists() else None
    if known is None:
        if is_elsewhere(folder) and any(entry.is_dir() for entry in folder.trials.glob("*")):
            raise ValueError(f"cluster.storage: study {folder.name!r} was begun without; its trials are in its folder")
        known = {"storage": place, "id": uuid.uuid4().hex}
    if known["storage"] != place:
        kept = known["storage"] or folder.trials
        raise ValueError(
            f"cluster.storage: the trials of study {folder.name!r} are kept in {kept}, not in {folder.storage}; "
            "continue it with the same cluster.storage"
        )
    try:
        before = _owner(folder.storage)
        if before not in (None, "", known["id"]):
            raise ValueError(
                f"cluster.storage: {folder.storage} holds the trials of another study of this name; choose another "
                "name with study=NAME, or another storage"
            )
        _write(join(folder.storage, OWNER), json.dumps({"id": known["id"]}))
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"cluster.storage: {folder.storage} cannot be written ({error})") from None
    try:
        _check_nodes(folder.storage, known["id"])
    except ValueError:
        if before is None:
            filesystem, path = open_storage(join(folder.storage, OWNER))
            filesystem.delete_file(path)
        raise
    write_json(claim, known)


def is_elsewhere(folder: StudyFolder) -> bool:
    """Whether a study's trials are kept outside its folder."""
    return folder.storage != str(folder.trials)


def trial_folders(run: str) -> list[str]:
    """The folders of all trials of a run; none if it was never begun."""
    return sorted(join(run, name) for name, kind in _entries(run) if kind == FileType.Directory)


def note_parameters(config: dict[str, Any]) -> None:
    """Keep in the folder of the trial that runs here what it was begun with: Tune does so only seconds later."""
    filesystem, folder = own_folder()
    # what cannot be written now is worth nothing but the time since the start, and that only if all goes wrong
    with suppress(OSError):
        filesystem.create_dir(folder)
        with filesystem.open_output_stream(f"{folder}/{BEGUN}") as file:
            file.write(json.dumps(config).encode())


def parameters(folder: str) -> dict[str, Any]:
    """What a trial was begun with; empty if it died before it could note that."""
    filesystem, path = open_storage(folder)
    try:
        found = json.loads(_read(filesystem, f"{path}/{BEGUN}"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def why_over(run: str, trusted: bool = True) -> str | None:
    """Why Tune cannot, or may not, continue a run, of whose record it needs every file; None where it can.

    Tune itself would begin such a run anew in the same folder, without a word. Reading the record runs what it says,
    so that it is read only where this user wrote it or it is ``trusted``.
    """
    filesystem, path = open_storage(run)
    names = sorted(name for name, _ in _entries(run))
    newest = [max(fnmatch.filter(names, pattern), default=None) for pattern in RECORDS]
    try:
        contents = [None if name is None else _read(filesystem, f"{path}/{name}") for name in newest]
        if contents[0] is not None:
            json.loads(contents[0])
        if not trusted and not is_own(run, _unpickled(run, newest, contents)):
            return (
                "the record of this run is not read, because reading it can run code, and it was not written by you, "
                "or its driver was killed or its disk full just then (trust=true reads it)"
            )
        with moved_modules_found():
            for content in contents[1:]:
                if content is not None:
                    cloudpickle.loads(content)
            if contents[0] is not None and recorded_trials(contents[0]):
                return None
    except (ImportError, AttributeError) as error:
        return f"the record of this run was written by another release of irnas_ray or Ray ({error})"
    except Exception:  # damaged bytes are met with almost any exception by JSON and pickle
        pass
    return "the record of this run is damaged, because its driver was killed while it wrote, or its disk was full"


def _unpickled(run: str, names: list[str | None], contents: list[bytes | None]) -> dict[str, bytes]:
    """The files of a run that Tune would unpickle, name -> content, given those of its record."""
    filesystem, _ = open_storage(run)
    files = {name: content for name, content in zip(names, contents, strict=True) if name and content is not None}
    for folder in trial_folders(run):
        place = open_storage(join(folder, ERROR))[1]
        if filesystem.get_file_info(place).type == FileType.File:
            files[f"{split(folder)[1]}/{ERROR}"] = _read(filesystem, place)
    return files


def ended_trials(run: str) -> list[Result]:
    """The trials of a run that finished, gave up or were stopped early, from their own folders."""
    results = []
    for folder in trial_folders(run):
        try:
            result = _result(folder)
        except (OSError, ValueError, LookupError):  # it never reported, or was cut off at any byte while it did
            continue
        # the file of an error stays where a trial recovered from it
        if has_ended(result.metrics or {}):
            results.append(result)
    return results


def _result(folder: str) -> Result:
    """A trial's last report and newest checkpoint; Ray's own ``Result.from_path`` unpickles its error, too."""
    filesystem, path = open_storage(folder)
    metrics = json.loads(_read(filesystem, f"{path}/{REPORTS}").decode().splitlines()[-1])
    names = [name for name, kind in _entries(folder) if kind == FileType.Directory and name.startswith(CHECKPOINT)]
    checkpoint = tune.Checkpoint(f"{path}/{max(names)}", filesystem) if names else None
    return Result(metrics=metrics, checkpoint=checkpoint, error=None, path=path, _storage_filesystem=filesystem)


def is_trained(folder: str) -> bool:
    """Whether a final training saved its last step, so that only what follows it may have to be done again."""
    filesystem, path = open_storage(folder)
    newest = max((name for name, _ in _entries(folder) if name.startswith(CHECKPOINT)), default=None)
    last = FinalLayout(Path(path) / newest).last if newest else None
    return last is not None and filesystem.get_file_info(str(last)).type == FileType.File


def has_ended(metrics: dict[str, Any]) -> bool:
    """Whether a trial's last report says that it finished, gave up or was stopped.

    ``done`` is set only where a trial ended or was stopped, and may be missing from the state of one that did just
    before its driver was killed.
    """
    return bool(metrics.get("done") or metrics.get("finished") or "error" in metrics)


def _entries(run: str) -> list[tuple[str, FileType]]:
    filesystem, path = open_storage(run)
    found = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
    return [(entry.base_name, entry.type) for entry in found]


def _read(filesystem: FileSystem, path: str) -> bytes:
    with filesystem.open_input_stream(path) as file:
        return file.readall()


def _write(url: str, text: str) -> None:
    filesystem, path = open_storage(url)
    filesystem.create_dir(str(PurePosixPath(path).parent))
    with filesystem.open_output_stream(path) as file:
        file.write(text.encode())


def _owner(url: str) -> str | None:
    """Id of the study that claimed a storage; empty if that cannot be read, None if nobody did."""
    filesystem, path = open_storage(url)
    if filesystem.get_file_info(f"{path}/{OWNER}").type == FileType.NotFound:
        return None
    try:
        return str(json.loads(_read(filesystem, f"{path}/{OWNER}"))["id"])
    except (ValueError, KeyError):
        return ""


def _check_nodes(url: str, identity: str) -> None:
    """ValueError unless every node that is there now sees what was just written."""
    here = ray.get_runtime_context().get_node_id()
    others = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    others.pop(here, None)
    look = ray.remote(num_cpus=0, max_retries=0)(_sees)
    seen = {
        node: look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(url, identity)
        for node in others
    }
    ray.wait(list(seen.values()), num_returns=len(seen), timeout=PROBE_SECONDS) if seen else None
    blind = [others[node] for node, answer in seen.items() if not _answer(answer)]
    if blind:
        raise ValueError(
            f"cluster.storage: {url} is not visible on {len(blind)} of {len(others) + 1} nodes ({', '.join(blind[:5])})"
            ", whose trials could not save their checkpoints; give results= on a disk that all nodes share, or "
            "cluster.storage= such a folder or a URL such as s3://bucket/prefix"
        )


def _sees(url: str, identity: str) -> bool:
    return _owner(url) == identity


def _answer(reference: ray.ObjectRef) -> bool:
    try:
        return bool(ray.get(reference, timeout=0))
    except Exception:  # a node that died, answers late or lacks the storage's library does not see it
        return False
