"""Training networks that are named instead of searched: one, or several side by side in one table."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.genotypes.published import load_genotype
from irnas_ray.hpo.records import name_of
from irnas_ray.kernels.sync_batch_norm import synchronise
from irnas_ray.networks.derived import count_parameters
from irnas_ray.networks.registry import GENOTYPE, check_name
from irnas_ray.results.layout import FinalLayout, StudyLayout
from irnas_ray.settings.study import SHAPES, RetrainConfig, short_values, with_values
from irnas_ray.study.candidates import BUILT_IN, Candidate, has_channels, read_by
from irnas_ray.study.checks import check_channels, check_settings
from irnas_ray.study.study import run
from irnas_ray.system.exit_status import checking_settings
from irnas_ray.system.files import read_json

#: Settings of `irnas-ray retrain` itself that may be compared, beside those of ``final`` and of a network's shape.
OWN = ("genotype", "network", "network_arguments")
#: Settings of ``final`` that must be equal for all: what is scored, how many are trained, and by how many workers.
COMMON = ("final.count", "final.protocol", "final.images", "final.scored", "final.workers")


def run_retraining(config: RetrainConfig) -> Path:
    """Train and score the networks that the settings name, in a study's folder without search trials.

    Returns the study's ``summary.json``. Raises ValueError or OSError with a clear message before any work where that
    is possible; Incomplete at the end if final trainings failed; KeyboardInterrupt if it was stopped.

    >>> import irnas_ray as ir
    >>> small = "network_arguments={depth: 3, width: 4}"
    >>> settings = ir.compose("retrain", ["network=dncnn", small, "study=short", "final.steps=20", "final.images=1"])
    >>> summary = ir.run_retraining(settings)
    final 1 is ...
    >>> network, _ = ir.load_network(summary.parent / "finals" / "1" / "network.pt")
    >>> network.arguments()
    {'channels': 1, 'depth': 3, 'width': 4}
    """
    with checking_settings():
        candidates = candidates_of(config)
    config.study = config.study or f"retrain-{_digest(candidates)}"
    config.domains = {}
    config.final.count = len(candidates)
    return run(config, lambda stage: ([], candidates))


def candidates_of(config: RetrainConfig) -> list[Candidate]:
    """One candidate for every combination of the values in ``config.compare``, or the only one where there are none.

    Settings that a search space tunes, which are those in ``config.domains``, are as the genotype was found, where it
    lies in its study's folder; for others it is said which value they have. Raises ValueError naming the key if it
    cannot be compared, a value is impossible, or a network cannot be built.
    """
    _check_comparison(config.compare)
    candidates: list[Candidate] = []
    left_open: dict[str, None] = {}
    tuned = [key for key in BUILT_IN if key in config.domains and key not in config.compare]
    for values in product(*config.compare.values()):
        chosen = dict(zip(config.compare, values, strict=True))
        settings = with_values(config, chosen | {"domains": {}})
        try:
            candidate = _candidate(len(candidates) + 1, settings, chosen, tuned)
            settings = with_values(settings, candidate.settings)
            check_settings(settings)
            network = candidate.make_network(settings)
            parameters = count_parameters(network)
            if settings.final.workers > 1:
                # a user's network may be of a kind that several cannot train
                synchronise(network)
        except TypeError as error:
            raise ValueError(f"compare: {short_values(chosen)} are not of the settings' types ({error})") from None
        except ValueError as error:
            raise ValueError(f"compare: {short_values(chosen)}: {error}" if chosen else str(error)) from None
        # networks that differ in nothing that they read are the same, as one without a genotype is for all genotypes
        if candidate.identity() not in [other.identity() for other in candidates]:
            print(f"final {candidate.rank} is {candidate.name}: {parameters / 1e6:.3f} M parameters", flush=True)
            candidates.append(candidate)
            left_open |= dict.fromkeys(_left_open(candidate, settings, tuned))
    for line in left_open:
        print(line, flush=True)
    _check_read(config.compare, candidates)
    if config.network_arguments and all(candidate.kind == GENOTYPE for candidate in candidates):
        raise ValueError("network_arguments: a genotype's network takes none; see final.width, or choose network=NAME")
    return candidates


def _candidate(rank: int, settings: RetrainConfig, chosen: Mapping[str, Any], tuned: list[str]) -> Candidate:
    check_name(settings.network)
    others = {key: value for key, value in chosen.items() if key not in OWN}
    if settings.network != GENOTYPE:
        others = read_by(None, others)
        arguments = dict(settings.network_arguments)
        shown = (arguments if "network_arguments" in chosen else {}) | others
        name = _name(settings.network, shown)
        kind = settings.network
        return Candidate(rank, name, kind, None, settings=others, kind=kind, arguments=arguments)
    settings.check_given()
    genotype = load_genotype(settings.genotype)
    if list(genotype.multipliers) != [float(multiplier) for multiplier in settings.architecture.multipliers]:
        raise ValueError(
            f"{settings.genotype}: its widths are {list(genotype.multipliers)} times the basic one, "
            f"those of search_spaces={settings.search_space} are {settings.architecture.multipliers}; "
            "name the space that found it"
        )
    found = _found_with(Path(settings.genotype), genotype)
    others = read_by(genotype, {key: found[key] for key in tuned if key in found} | others)
    # files that are compared may have one name in several folders
    what = settings.genotype if "genotype" in chosen else Path(settings.genotype).stem
    return Candidate(rank, _name(what, others), Path(settings.genotype).stem, genotype, settings=others)


def _found_with(path: Path, genotype: Genotype) -> dict[str, Any]:
    """The tuned values that the genotype in a file of a study's folder was found with; of other files none.

    ValueError naming the study's record if it cannot be read.
    """
    path = path.absolute()
    final, study = FinalLayout(path.parent), StudyLayout(path.parent.parent)
    plain = json.loads(genotype.to_json())
    if path == final.genotype and final.metrics.is_file():
        metrics = read_json(final.metrics)
        # a file of an early release has no settings, and that of an edited genotype is another's
        return metrics.get("settings", {}) if isinstance(metrics, dict) and metrics.get("genotype") == plain else {}
    # a trial's own, once its round is through
    records = study.read_records() if path == study.genotype(path.stem) else []
    found = [record["config"] for record in records if name_of(record) == path.stem and record.get("genotype") == plain]
    return found[0] if found else {}


def _left_open(candidate: Candidate, settings: RetrainConfig, tuned: list[str]) -> list[str]:
    """What shapes the candidate's network and is not known of its genotype, as lines for the user."""
    if candidate.genotype is None:
        return []
    missing = {key: None for key in tuned if key in SHAPES and key not in candidate.settings}
    lines = []
    for key in read_by(candidate.genotype, missing):
        section, name = key.split(".")
        lines.append(
            f"{key} is {getattr(getattr(settings, section), name)}: {settings.genotype} does not say with what it was "
            f"found, because search_spaces={settings.search_space} tunes it; if it was another value, give {key}=VALUE"
        )
    return lines


def _name(what: str, values: Mapping[str, Any]) -> str:
    return f"{what}, {short_values(values)}" if values else what


def _check_comparison(compare: Mapping[str, Any]) -> None:
    for key, values in compare.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"compare.{key}: {values!r}; give a list of values, such as [0,0.5]")
        if any(values.count(value) > 1 for value in values):
            raise ValueError(f"compare.{key}: {values} holds a value twice")
        if key not in (*OWN, *BUILT_IN) and (not key.startswith("final.") or key in COMMON):
            possible = f"{', '.join([*OWN, *BUILT_IN])}, and final.* but for {', '.join(COMMON)}"
            raise ValueError(f"compare.{key}: cannot differ within a table; possible: {possible}")


def _check_read(compare: Mapping[str, Any], candidates: list[Candidate]) -> None:
    """ValueError naming the key if none of the networks depends on what it compares."""
    macros = [candidate.genotype.macro for candidate in candidates if candidate.genotype is not None]
    check_channels("compare", compare, lambda key: any(has_channels(key, partial(getattr, own)) for own in macros))
    shapes = [key for key in compare if key in SHAPES]
    if shapes and not macros:
        raise ValueError(
            f"compare.{shapes[0]}: shapes networks of genotypes, and none is compared here; see network_arguments"
        )


def _digest(candidates: list[Candidate]) -> str:
    if len(candidates) == 1 and candidates[0].genotype is not None:
        return candidates[0].genotype.digest
    content = json.dumps([candidate.identity() for candidate in candidates], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]
