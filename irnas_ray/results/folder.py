"""A study's folder: what lies where, and how it is written so that nothing is lost or overwritten unasked."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from irnas_ray.results.layout import StudyLayout
from irnas_ray.settings.study import CHANNELS, RetrainConfig, StudyConfig
from irnas_ray.system.files import locked, write_text
from irnas_ray.system.urls import absolute, join, masked

LIMITS = ("tune.max_parameters", "tune.max_multiply_adds")
#: Settings that may differ when a study is continued; all others decide what its trials mean.
FREE_TO_CHANGE = (
    *("results", "resume", "trust", "cluster", "final", "data.output"),
    *("tune.trials", "tune.max_failures", "tune.storage_patience", "tune.loggers"),
    *LIMITS,
)

#: Of the settings under ``final`` these may differ where search trials train final networks by them.
FREE_OF_RECIPE = tuple(
    f"final.{name}"
    for name in ("count", "steps", "minutes", "workers", "validate_every", "seed", "protocol", "images", "scored")
)

LOCK = ".lock"
#: What the quickstart of the first releases searched.
FIRST_QUICKSTART = "irnas_small"


class StudyFolder(StudyLayout):
    """The folder ``results/<study>`` of a study that is run: where it lies, whose it is, and what may change in it."""

    def __init__(self, config: StudyConfig) -> None:
        self.name = config.study or config.search_space
        if not self.name or self.name in (".", "..", "prepared") or "/" in self.name or os.sep in self.name:
            raise ValueError(f"study: {self.name!r} cannot name a folder; use letters, digits, '-' and '_'")
        super().__init__(Path(config.results).absolute() / self.name)
        chosen = config.cluster.storage
        #: The folder or URL in which Tune keeps its runs: trials, reports and checkpoints.
        self.storage = str(self.trials) if chosen is None else join(absolute(chosen), self.name)
        self._held = False

    def run(self, name: str) -> str:
        """Folder or URL of a run of Tune."""
        return join(self.storage, name)

    def check(self, config: StudyConfig, fingerprint: str | None = None) -> None:
        """ValueError unless the study is new, or exists and is to be resumed with settings that fit it.

        So must the images, where the ``fingerprint`` of the data is given.
        """
        if not self.config.exists():
            if config.resume:
                raise ValueError(f"study {self.name!r}: nothing to resume in {self.path}; leave out resume=true")
            if self.path.is_dir() and any(entry.name != LOCK for entry in self.path.iterdir()):
                raise ValueError(f"{self.path} holds other files; choose another name with study=NAME or results=DIR")
            return
        if not config.resume:
            # whoever works on it must not be told to continue it
            with contextlib.nullcontext() if self._held else self.lock():
                pass
            raise ValueError(
                f"study {self.name!r} exists in {self.path}; continue it with resume=true, "
                "or choose another name with study=NAME"
            )
        # A setting that a study begun with an earlier release lacks had no effect there, as its default has none.
        before = _flat(as_plain(type(config)())) | _flat(self._begun_with())
        now = _flat(as_plain(config))
        changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
        if config.tune.sampler == "gp":
            # Optuna's wants one and the same number of constraints from all trials of a study
            kept = [key for key in LIMITS if (before.get(key) is None) != (now.get(key) is None)]
        else:
            kept = []
        changed = [
            key
            for key in changed
            if key in kept or (not may_change(key, config) and key not in ("study", "fingerprint"))
        ]
        if changed:
            listed = ", ".join(f"{key} ({before.get(key)!r} -> {now.get(key)!r})" for key in changed[:5])
            raise ValueError(f"study {self.name!r} was begun with other settings: {listed}; use a new name")
        if fingerprint is not None and self._begun_with().get("fingerprint", "") != fingerprint:
            raise ValueError(
                f"study {self.name!r} was begun with other images: the files of data.source have changed since, so its "
                "trials and the new ones would not be comparable; use a new name"
            )

    def _begun_with(self) -> dict[str, Any]:
        try:
            settings = self.read_settings()
            if settings.get("search_space") == "quickstart" and "minutes" not in settings:
                # what the first releases called so is another space now
                settings["search_space"] = FIRST_QUICKSTART
            return settings
        except ValueError as error:
            raise ValueError(f"{error}, so the study cannot be continued; use a new name") from None

    def create(self, config: StudyConfig, fingerprint: str = "") -> None:
        """Make the folder and write ``config.yaml``; OSError naming the folder if it cannot be written.

        ``fingerprint`` is that of the data.
        """
        try:
            for folder in (self.path, self.trials, self.genotypes):
                folder.mkdir(parents=True, exist_ok=True)
            plain = as_plain(config) | {"fingerprint": fingerprint}
            write_text(self.config, yaml.safe_dump(plain, sort_keys=False))
        except OSError as error:
            raise OSError(
                f"cannot write the study's folder {self.path}: {error.strerror}; choose results=DIR"
            ) from None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the study for this process, however it ends; ValueError if another one works on it.

        What was made for a study that was not begun in the end is removed.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        with contextlib.ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(self.path / LOCK))
            except BlockingIOError:
                raise ValueError(f"another process is working on study {self.name!r} in {self.path}") from None
            except OSError as error:
                raise OSError(
                    f"cannot write the study's folder {self.path}: {error.strerror}; choose results=DIR"
                ) from None
            self._held = True
            try:
                yield
            finally:
                self._held = False
                if not self.config.exists():
                    (self.path / LOCK).unlink(missing_ok=True)
                    with contextlib.suppress(OSError):  # it holds something else, such as prepared data
                        for folder in made:
                            folder.rmdir()


def may_change(key: str, config: StudyConfig) -> bool:
    """Whether a setting may differ when a study with these settings is continued."""
    if not key.startswith(FREE_TO_CHANGE):
        return False
    if isinstance(config, RetrainConfig) or not key.startswith("final."):
        return True
    short = config.search.proxy_steps or "search.proxy_steps" in config.domains
    if not config.search.supernet or short:
        # the trials' scores are those of networks that were built and trained so
        return key.startswith(FREE_OF_RECIPE)
    return key not in CHANNELS or len(config.tune.objectives) == 1


def as_plain(config: StudyConfig) -> dict[str, Any]:
    """The settings as plain values that YAML and JSON can hold; distributions as their text, without passwords."""
    plain = dataclasses.asdict(config)
    if config.tune.storage:
        plain["tune"]["storage"] = masked(config.tune.storage)
    plain["domains"] = {key: str(value) for key, value in config.domains.items()}
    return plain


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict) and key != "domains":
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat
