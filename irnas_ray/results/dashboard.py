"""What optuna-dashboard shows of a finished study beside its numbers: notes, drawn genotypes and restored images.

They are kept as optuna-dashboard 0.21 keeps them, which need not be installed where the study runs: the text in parts,
and descriptions of the files of an artifact store, as system attributes of the study, which nothing reads while
configurations are proposed. ``tests/results/test_dashboard.py`` reads them with the dashboard itself.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from optuna.storages import BaseStorage

from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.hpo.records import name_of
from irnas_ray.results.aggregates import by_configuration
from irnas_ray.results.genotype_drawing import draw_genotype
from irnas_ray.results.layout import FinalLayout, StudyLayout
from irnas_ray.results.plots import png
from irnas_ray.results.study_results import StudyResults, genotype_of
from irnas_ray.results.table import Table, number
from irnas_ray.results.tables import STATES, margins_of, verdict
from irnas_ray.system.files import write_bytes

#: Most characters of a system attribute in the dashboard.
PART = 2045
#: Of so many trials, the best ones, the genotype is drawn, which takes a third of a second each.
DRAWN = 50
#: The version of every note that is written here; the dashboard counts on with every change that its user makes.
OURS = 1

Records = Sequence[Mapping[str, Any]]


def annotate(results: StudyResults, storage: BaseStorage) -> None:
    """Write notes and artifacts of all that is in the study, where they differ from what is there.

    Pictures lie in ``artifacts/`` of the study's folder. Notes that a user has changed, and pictures that one has
    removed, stay so.
    """
    study_id = storage.get_study_id_from_name(results.name)
    before = storage.get_study_system_attrs(study_id)
    wanted = _note("", _study_note(results), before)
    drawn = [name_of(record) for record in results.ranked()[:DRAWN]]
    for configuration, group in by_configuration(results.records).items():
        if not isinstance(configuration, int):
            # a record of the first releases, which does not tell its number
            continue
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, configuration)
        wanted |= _note(f"{trial_id}:", _trial_note(results, group), before)
        wanted |= _artifacts(results, group, drawn, f"dashboard:artifacts:{trial_id}:", before)
    for key, value in wanted.items():
        if before.get(key) != value:
            storage.set_study_system_attr(study_id, key, value)


def _note(owner: str, body: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that hold a note, of the study or of a trial; none where a user has changed it."""
    version, prefix = f"dashboard:{owner}note_ver", f"dashboard:{owner}note_str:"
    if before.get(version, OURS) != OURS:
        return {}
    parts = [body[start : start + PART] for start in range(0, len(body), PART)]
    kept = sum(key.startswith(prefix) for key in before)
    parts += [""] * (kept - len(parts))
    return {version: OURS} | {f"{prefix}{place}": part for place, part in enumerate(parts)}


def _study_note(results: StudyResults) -> str:
    lines = [*verdict(results), f"Folder: `{results.folder}`; `report.html` there has everything on one page."]
    return "\n\n".join([f"# {results.name}", *lines])


def _trial_note(results: StudyResults, group: Records) -> str:
    """A configuration with what each of its seeds found and where their files lie in the study's folder."""
    names = ["trial", "state", ">score (dB)", ">PSNR (dB)", ">SSIM", ">parameters", ">multiply-adds per pixel"]
    rows = [
        [
            name_of(record),
            STATES.get(record["state"], record["state"].lower()),
            *(number(record.get("score"), 2), number(record.get("psnr"), 2), number(record.get("ssim"), 4)),
            *(number(record.get("parameters")), number(record.get("multiply_adds_per_pixel"))),
        ]
        for record in group
    ]
    parts = [Table(names, rows).markdown()]
    for record in group:
        genotype, name = genotype_of(record), name_of(record)
        if genotype is not None:
            parts.append(f"Genotype of {name}: {genotype} (`genotypes/{name}.json`)")
        if record.get("error"):
            parts.append(f"{name} failed: {record['error']}")
        parts.append(f"Files of {name}: `trials/round-{record.get('round', 1)}*/{record['id']}`")
        for final in _finals(results, record):
            place = f"finals/{final['rank']}/network.pt"
            parts.append(f"Final {final['rank']}: {number(final.get('psnr'), 2)} dB, `{place}`")
    return "\n\n".join(parts)


def _artifacts(
    results: StudyResults, group: Records, drawn: Sequence[str], prefix: str, before: Mapping[str, Any]
) -> dict[str, str]:
    """The attributes that describe a trial's pictures, which are written; those of earlier finals are taken back."""
    found = {}
    for name, seed, make in _pictures(results, group, drawn):
        # the same for the same picture, so that it is there once
        identity = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {seed}"))
        if prefix + identity not in before:
            write_bytes(results.folder / "artifacts" / identity, make())
        described = {"artifact_id": identity, "filename": name, "mimetype": "image/png", "encoding": None}
        found[prefix + identity] = before.get(prefix + identity, json.dumps(described))
    earlier = {key for key in before if key.startswith(prefix)} - found.keys()
    return found | {key: json.dumps(None) for key in earlier if "final-" in before[key]}


def _pictures(
    results: StudyResults, group: Records, drawn: Sequence[str]
) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """Name of each picture of a trial, what it is the picture of, and what gives its content."""
    for record in group:
        genotype, name = genotype_of(record), name_of(record)
        if genotype is not None and name in drawn:
            # bound here, for the next seed has another
            yield f"genotype-{name}.png", genotype.digest, partial(_drawing, genotype, record)
        for final in _finals(results, record):
            images = FinalLayout(StudyLayout(results.folder).final(final["rank"])).images
            for path in sorted(images.rglob("*.png"))[:1]:
                content = path.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                yield f"final-{final['rank']}-{path.name}", digest, partial(bytes, content)


def _drawing(genotype: Genotype, record: Mapping[str, Any]) -> bytes:
    return png(draw_genotype(genotype, margins_of(record)))


def _finals(results: StudyResults, record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [final for final in results.summary.get("finals") or [] if final.get("trial") == name_of(record)]
