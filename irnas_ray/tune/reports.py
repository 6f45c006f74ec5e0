"""What a worker's run tells Ray: metrics, notices to the user, and checkpoints that outlast damage and a full disk."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.fs
from ray import tune
from torch import nn

from irnas_ray.datasets.batches import State
from irnas_ray.networks.checkpoints import load_state, save_state
from irnas_ray.tune.heartbeat import Pulse
from irnas_ray.tune.internals import CHECKPOINT, remove_unsent_checkpoint
from irnas_ray.tune.storage import open_storage

STATE = "state.pt"
#: Seconds between the first two attempts to save what cannot be saved later, and most between later ones.
AGAIN, AT_MOST = 10, 60

#: Writes further files into the folder of a checkpoint.
Write = Callable[[Path], None]


#: What trials that a damaged run left were begun with, and their folders.
Left = Sequence[tuple[Mapping[str, Any], str]]


class Reports:
    """The reports of one run in its worker; each carries the notices to the user that have come up since the last.

    Args:
        get, send: Give the newest checkpoint and send a report: those of Tune, or of Ray Train in one of its workers.
        patience: Minutes for which the last report waits for space on a full disk.
        alone: Whether this worker reports by itself. Of several, none may repeat a report that failed.
        pulse: The worker's sign of life; None: it gives none.
        newer: Whether a checkpoint newer than the one that ``get`` names may be gone on from where that one and all
            older ones are damaged. Not in a population, where it may have been trained with other rates.
        left: Folders of trials that this one replaces; without a checkpoint of its own it goes on from theirs.
    """

    def __init__(
        self,
        get: Callable[[], tune.Checkpoint | None] = tune.get_checkpoint,
        send: Callable[..., None] = tune.report,
        patience: float = 10,
        alone: bool = True,
        pulse: Pulse | None = None,
        newer: bool = True,
        left: Sequence[str] = (),
    ) -> None:
        self._get, self._send, self.patience, self.alone, self.pulse = get, send, patience, alone, pulse
        self.newer, self.left = newer, list(left)
        #: The metrics that were reported last; after a restart what the run itself knows of them.
        self.last: dict[str, Any] = {}
        self._notices: list[str] = []
        self._divided: set[tuple[int, int]] = set()

    def notice(self, text: str) -> None:
        """Tell the user something with the next report."""
        self._notices.append(text)

    def follow(self, network: nn.Module) -> None:
        """Let every forward pass of a network, and of its copies, be a sign of life."""
        if self.pulse is not None:
            self.pulse.follow(network)

    def divided(self, micro_batch: int | None, batch: int) -> dict[str, int]:
        """The metric that tells that batches do not fit into memory, empty where they do; the user is told once."""
        if micro_batch is None or micro_batch >= batch:
            return {}
        if (micro_batch, batch) not in self._divided:
            self._divided.add((micro_batch, batch))
            self.notice(f"{batch} images do not fit into memory: each batch of them goes in parts of {micro_batch}")
        return {"micro_batch": micro_batch}

    def fail(self, error: Exception, metrics: dict[str, Any]) -> None:
        """Report why the run gave up, beside what it reported last: one that raises is started again."""
        self._tell(self.last | metrics | {"error": str(error), "finished": False})

    def load(self) -> State | None:
        """The state that the run, or one that it replaces, saved last; another if that is damaged; None without any.

        A driver that was killed names an older checkpoint than there is, so that newer ones are tried at the very last.
        The user is told what was damaged, also where nothing else is left and the run begins anew.
        """
        found = self._checkpoints()
        for checkpoint in found:
            name = PurePosixPath(checkpoint.path).name
            try:
                with checkpoint.as_directory() as folder:
                    # on the CPU: generators' states must stay there, and modules copy the rest to their device
                    state = load_state(Path(folder) / STATE)
            except (ValueError, OSError) as error:
                reason = str(error).rpartition(f"{STATE}: ")[2].partition(";")[0]
                self.notice(f"{name} cannot be read ({reason})")
                continue
            if self._notices:
                self.notice(f"goes on from {name} instead")
            elif self._get() is None:
                self.notice(f"goes on from {name} of the trial that it replaces")
            return state
        if found:
            self.notice("no other checkpoint is left, begins anew")
        return None

    def _checkpoints(self) -> list[tune.Checkpoint]:
        """All that the run may go on from, best first."""
        named = self._get()
        if named is None:
            return [checkpoint for folder in self.left for checkpoint in _saved(*open_storage(folder))][::-1]
        older, newer = _others(named)
        return [named, *older, *(newer if self.newer else [])]

    def report(self, metrics: dict[str, Any], state: State | None = None, write: Write | None = None) -> None:
        """Report metrics with a checkpoint of ``state``, if there is one, and what ``write`` puts beside it.

        What cannot be saved is reported all the same, with a notice, and the earlier checkpoint stays. A report with
        ``finished`` is needed whole: it waits for space, and OSError ends it when patience does.
        """
        if state is None:
            self._tell(metrics)
            return
        with _Files(state, write) as files:
            reason = self._save(metrics, files)
            if reason is None:
                return
            if metrics["finished"]:
                self._insist(metrics, files, reason)
                return
        self.notice(f"its checkpoint cannot be saved ({reason}); goes on, and tries again with the next one")
        self._tell(metrics)

    def _insist(self, metrics: dict[str, Any], files: "_Files", reason: str | None) -> None:
        """Try again to save, ever more rarely, until that succeeds or patience ends."""
        start, told, pause = time.monotonic(), False, AGAIN
        while reason is not None:
            if time.monotonic() - start > 60 * self.patience:
                raise OSError(f"the results cannot be saved, for {self.patience:g} minutes now: {reason}")
            if not told:
                told = True
                self.notice(f"its results cannot be saved ({reason}); waits up to {self.patience:g} minutes for space")
                self._tell(metrics | {"finished": False})
            if self.pulse is not None:
                self.pulse()
            time.sleep(pause)
            pause = min(2 * pause, AT_MOST)
            reason = self._save(metrics, files)

    def _save(self, metrics: dict[str, Any], files: "_Files") -> str | None:
        """Report with a checkpoint; why that failed, and then nothing of the checkpoint is left."""
        notices, self.last, begun = list(self._notices), metrics, False
        try:
            checkpoint = tune.Checkpoint.from_directory(str(files.made()))
            begun = True
            self._send(self._with_notices(metrics), checkpoint=checkpoint)
            return None
        except OSError as error:
            if not self.alone:
                raise
            # pyarrow has sentences of its own around the system's
            reason = os.strerror(error.errno) if error.errno else str(error)
        self._notices = notices
        if begun:
            # half a checkpoint would take the space that the next one needs
            with suppress(OSError):
                remove_unsent_checkpoint()
        return reason

    def _tell(self, metrics: dict[str, Any]) -> None:
        self.last = metrics
        self._send(self._with_notices(metrics))

    def _with_notices(self, metrics: dict[str, Any]) -> dict[str, Any]:
        if not self._notices:
            return metrics
        notice, self._notices = "; ".join(self._notices), []
        return metrics | {"notice": notice}


class _Files:
    """The files of a checkpoint in a folder that is gone afterwards; what has been written is not written again."""

    def __init__(self, state: State, write: Write | None) -> None:
        self._left: list[Write] = [lambda folder: save_state(state, folder / STATE)]
        if write is not None:
            self._left.append(write)
        self._folder: Path | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def made(self) -> Path:
        """The folder with all files; OSError if one of them cannot be written, to be tried again."""
        if self._folder is None:
            folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            self._folder = Path(self._stack.enter_context(folder))
        while self._left:
            self._left[0](self._folder)
            del self._left[0]
        return self._folder


def folders_of(config: Mapping[str, Any], left: Left) -> list[str]:
    """The folders of trials that were begun with the same values."""
    return [folder for values, folder in left if values == config]


def _others(checkpoint: tune.Checkpoint) -> tuple[list[tune.Checkpoint], list[tune.Checkpoint]]:
    """The checkpoints of the same run that are older than this one and those that are newer, its neighbours first."""
    path, filesystem = PurePosixPath(checkpoint.path), checkpoint.filesystem
    assert filesystem is not None
    saved = _saved(filesystem, str(path.parent))
    older = [other for other in saved if PurePosixPath(other.path).name < path.name]
    return older[::-1], [other for other in saved if PurePosixPath(other.path).name > path.name]


def _saved(filesystem: pyarrow.fs.FileSystem, folder: str) -> list[tune.Checkpoint]:
    """The checkpoints in a trial's folder, oldest first."""
    with suppress(OSError):
        entries = filesystem.get_file_info(pyarrow.fs.FileSelector(folder))
        names = sorted(entry.base_name for entry in entries if entry.base_name.startswith(CHECKPOINT))
        return [tune.Checkpoint(f"{folder}/{name}", filesystem) for name in names]
    return []
