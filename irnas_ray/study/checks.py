"""Everything that can be known to be wrong before hours of work: settings against each other and against the data."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from random import Random
from typing import Any

import torch

from irnas_ray.cluster.placement import check_gpus
from irnas_ray.datasets.manifest import Manifest, is_prepared
from irnas_ray.degradations.factory import check_degradation
from irnas_ray.degradations.gaussian import GaussianNoise
from irnas_ray.evaluation.protocols import check_form, get_protocol, protocol_id
from irnas_ray.hpo.methods import METHODS
from irnas_ray.hpo.objectives import objectives_of
from irnas_ray.hpo.samplers import check_sampler, grid_size
from irnas_ray.hpo.search_space import OWN, SearchSpace
from irnas_ray.hpo.starting_points import starting_points
from irnas_ray.images.sources import form_of
from irnas_ray.networks.building import make_encoding
from irnas_ray.networks.costs import size_of
from irnas_ray.networks.operators import check_activation, check_operators, level_width
from irnas_ray.networks.size import check_parameters
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.results.layout import settings_in
from irnas_ray.settings.bounds import check_bounds
from irnas_ray.settings.study import Search, StudyConfig, Tune, with_values
from irnas_ray.study.candidates import BUILT_IN, PARTS, has_channels
from irnas_ray.study.limits import OF_SUPERNETS, RECIPE, check_limits, grid_within, most_of
from irnas_ray.training.optimizers import check_decay, warn_of_rate
from irnas_ray.training.schedules import Budget, check_schedule
from irnas_ray.tune.loggers import check_loggers
from irnas_ray.tune.perturbation import check_population

#: What all trials of a study have in common.
FIXED = ("architecture.channels", "search.epochs", "search.method")
#: What the genes of a genotype may be, where genes are proposed.
GIVING_GENES = ("architecture.operators", "architecture.multipliers")
#: What acts on alpha or the mixture.
OF_ALPHA = ("warmup_paths", "beta_decay", "auxiliary_skip", "alpha_noise", "skip_dropout", "decoding")
#: Basic widths, each of whose values has to give whole numbers of channels.
WIDTHS, MULTIPLIERS = {"architecture.width", "final.width"}, "architecture.multipliers"
#: SSIM's window does not fit into smaller crops.
SMALLEST_CROP = 11


def check_settings(config: StudyConfig) -> None:
    """ValueError naming the setting if the study cannot run; fills in the protocol where it is left open."""
    _check_numbers(config)
    check_loggers(config.tune.loggers)
    _check_final_training(config)
    objectives_of(config.tune.objectives)
    channels = 1 if config.data.color == "gray" else 3
    if config.architecture.channels != channels:
        given = config.architecture.channels
        raise ValueError(f"architecture.channels is {given}, but data.color={config.data.color} has {channels}")
    _check_corners(config, check_domains(config), _check_numbers, _check_networks)
    _fill_protocol(config)
    warn_of_rate(config.final.optimizer, config.final.lr)


def _check_corners(config: StudyConfig, space: SearchSpace, *checks: Callable[[StudyConfig], object]) -> None:
    """ValueError of the checks for the extreme configurations of a space, and for widths between those."""
    for values in space.corners():
        changed = with_values(config, values)
        try:
            for check in checks:
                check(changed)
        except TypeError as error:
            raise ValueError(f"domains: {values} are not of the settings' types ({error})") from None
    _check_widths(config, space)


def _check_widths(config: StudyConfig, space: SearchSpace) -> None:
    """ValueError naming the domain of widths, one of which is impossible with multipliers that it can come with."""
    for key in WIDTHS & config.domains.keys():
        wanted = {name: space.all_of(name) for name in (key, MULTIPLIERS) if name in config.domains}
        for values in space.configurations(wanted):
            if key not in values:
                continue
            for multiplier in values.get(MULTIPLIERS, config.architecture.multipliers):
                try:
                    level_width(values[key], multiplier)
                except ValueError as error:
                    raise ValueError(f"domains.{key}: {error}") from None


def _check_numbers(config: StudyConfig) -> None:
    check_bounds(config)
    check_gpus(config.cluster.gpus_per_trial)
    for key in ("search.crop", "final.crop"):
        crop, patch = _value(config, key), config.data.patch
        if not SMALLEST_CROP <= crop <= patch:
            raise ValueError(f"{key}: {crop}; from {SMALLEST_CROP} (SSIM's window) to data.patch={patch}")
    _check_degradation(config)


def _check_degradation(config: StudyConfig) -> None:
    check_degradation(config.degradation)
    if config.degradation.kind != "gaussian":
        if config.final.blind:
            raise ValueError(
                f"final.blind: only white noise has levels, not degradation.kind={config.degradation.kind}"
            )
        return
    try:
        GaussianNoise([config.final.sigma])
    except ValueError as error:
        raise ValueError(f"final.sigma: {error}") from None


def _check_final_training(config: StudyConfig) -> None:
    final = config.final
    if final.batch % final.workers:
        fitting = [workers for workers in range(1, final.batch + 1) if final.batch % workers == 0]
        raise ValueError(
            f"final.workers: a batch of {final.batch} cannot be divided among {final.workers} workers; "
            f"possible: {', '.join(map(str, fitting))}, or change final.batch"
        )
    try:
        check_schedule(final.schedule, final.warmup)
        check_decay(final.ema_decay)
        if final.minutes is not None:
            Budget(minutes=final.minutes)
    except ValueError as error:
        raise ValueError(f"final.{error}") from None


def check_domains(config: StudyConfig) -> SearchSpace:
    """The search space; ValueError unless every domain names a setting that may vary among trials and is reached."""
    space = SearchSpace.of(config)
    for key in config.domains:
        if not key.startswith(("architecture.", "search.")) and key not in BUILT_IN or key in FIXED:
            possible = ", ".join(name for name in BUILT_IN if name.startswith("final."))
            raise ValueError(
                f"domains.{key}: cannot differ between trials; possible: architecture.*, search.*, {possible}"
            )
        if key in RECIPE and config.search.supernet and not config.search.proxy_steps:
            raise ValueError(
                f"domains.{key}: no trial trains by it; give search.proxy_steps, for which the decoded networks are "
                "trained by the recipe, or a search.method without a supernet"
            )
    space.check()
    check_channels("domains", config.domains, lambda key: _is_read(config, space, key))
    return space


def _is_read(config: StudyConfig, space: SearchSpace, key: str) -> bool:
    """Whether a configuration in which some channels are tuned has a network that has them."""
    choices = [OWN + name for name in PARTS[key] if OWN + name in space.domains]
    found = space.configurations({key: space.kinds(key)} | {name: space.all_of(name) for name in choices})
    architectures = (with_values(config, values).architecture for values in found if key in values)
    return any(has_channels(key, partial(getattr, own)) for own in architectures)


def check_channels(table: str, keys: Iterable[str], is_read: Callable[[str], bool]) -> None:
    """ValueError naming the key if it sets channels that no network reads."""
    for key in PARTS.keys() & set(keys):
        if not is_read(key):
            needed = " or ".join(f"{OWN}{name}={str(way).lower()}" for name, way in PARTS[key].items())
            raise ValueError(f"{table}.{key}: no network here has such channels; they need {needed}")


def check_search(config: StudyConfig) -> None:
    """ValueError if the study cannot propose from its domains as it is told; a grid ends it when it is through."""
    _check_method(config)
    space = check_domains(config)
    if most_of(config):
        _check_corners(config, space, check_bounds, _check_networks)
        check_limits(config, space)
    if config.search.supernet:
        check_sampler(config.tune.sampler, space, len(config.tune.objectives))
    if config.tune.sampler == "grid":
        size, which = grid_size(space), "the whole grid is"
        if most_of(config):
            size, which = grid_within(config, space, size), "what of the grid is within tune.max_* is"
            if not size:
                raise ValueError("tune.max_*: no configuration of the grid keeps these limits; raise them")
        if config.tune.trials > size:
            print(f"tune.trials: {config.tune.trials}, but {which} {size}, so that many are run", flush=True)
            config.tune.trials = size
    check_population(config)
    if not config.resume:
        # a study that is continued has its starting points, whatever became of where they are from
        starting_points(config.tune, space, settings_in)


def _check_method(config: StudyConfig) -> None:
    """ValueError naming the setting that a method without a supernet cannot have; domains without effect are left out.

    Those that a search space has for supernets are no mistake of who chooses another method for it.
    """
    own, tuned = config.search, config.tune
    if own.supernet or own.method not in METHODS:
        return
    without = f"search.method={own.method} has no supernet"
    if tuned.perturb_every is not None:
        raise ValueError(f"tune.perturb_every: {without}, whose rates a population changes; leave it out")
    if tuned.sampler != Tune().sampler:
        raise ValueError(
            f"tune.sampler: {tuned.sampler}, but search.method={own.method} proposes; leave one of both out"
        )
    if len(tuned.objectives) > METHODS[own.method].objectives:
        raise ValueError(
            f"tune.objectives: search.method={own.method} has one objective; with several use tpe or random"
        )
    if own.method in ("evolution", "predictor") and own.population is not None and own.population >= tuned.trials:
        raise ValueError(
            f"search.population: {own.population}; less than tune.trials={tuned.trials}, or only uniform ones are tried"
        )
    for key in GIVING_GENES:
        if key in config.domains:
            raise ValueError(f"domains.{key}: {without}, and the genes of all its genotypes have the same values")
    idle = [key for key in config.domains if key.startswith("search.") or key in OF_SUPERNETS]
    if idle:
        print(f"{', '.join(f'domains.{key}' for key in idle)}: not tuned, because {without}", flush=True)
        config.domains = {key: domain for key, domain in config.domains.items() if key not in idle}


def _check_paths(config: StudyConfig) -> None:
    """ValueError naming the setting with which a supernet cannot be trained on paths."""
    own, widths = config.search, len(config.architecture.multipliers)
    if own.method == "single_path":
        idle = [key for key in OF_ALPHA if getattr(own, key) != getattr(Search(), key)]
        if idle:
            raise ValueError(f"search.{idle[0]}: search.method=single_path trains no alpha that it could act on")
    if widths > 1 and (own.warmup_paths or own.method == "single_path"):
        asked = "search.warmup_paths" if own.warmup_paths else "search.method=single_path"
        raise ValueError(
            f"{asked}: paths need a supernet of one width, not of {widths}; set architecture.multipliers=[1], or leave "
            "it out"
        )


def _check_networks(config: StudyConfig) -> None:
    if not config.search.supernet:
        _check_genotypes(config)
        return
    if not 0 <= config.search.warmup_epochs < config.search.epochs:
        raise ValueError(f"search.warmup_epochs: {config.search.warmup_epochs}; 0 to {config.search.epochs - 1}")
    if config.search.candidates > 1 and not config.search.proxy_steps:
        raise ValueError(
            f"search.candidates: {config.search.candidates} of them need short trainings to tell which is best; set "
            "search.proxy_steps"
        )
    _check_paths(config)
    with torch.device("meta"):
        try:
            SuperNet(**asdict(config.architecture))
        except ValueError as error:
            raise ValueError(f"architecture.{error}") from None
    for multiplier in config.architecture.multipliers:
        try:
            width = level_width(config.final.width, multiplier)
        except ValueError as error:
            raise ValueError(f"final.{error}") from None
        try:
            check_parameters(width**2)
        except ValueError as error:
            raise ValueError(f"final.width: {config.final.width}; {error}") from None


def _check_genotypes(config: StudyConfig) -> None:
    """ValueError naming the setting unless every genotype of the space has a final network."""
    try:
        check_operators(config.architecture.operators)
        check_activation(config.architecture.activation)
        encoding = make_encoding(config)
    except ValueError as error:
        raise ValueError(f"architecture.{error}") from None
    try:
        for multiplier in config.architecture.multipliers:
            level_width(config.final.width, multiplier)
        size_of(encoding.sample(Random(0)), config)
    except ValueError as error:
        raise ValueError(f"final.{error}") from None


def _fill_protocol(config: StudyConfig) -> None:
    if config.final.protocol is None:
        source = config.data.source
        form = Manifest.load(source).form if source is not None and is_prepared(source) else form_of(config.data)
        images = form if form == "photographs" or form.startswith("frozen-") else "images"
        config.final.protocol = protocol_id(images, config.data.color, config.degradation)
    protocol = get_protocol(config.final.protocol, config.degradation)
    if protocol.channels != config.architecture.channels:
        raise ValueError(f"final.protocol: {protocol.id} is {protocol.color}, but data.color={config.data.color}")
    if protocol.degradation != config.degradation.kind:
        raise ValueError(
            f"final.protocol: {protocol.id} is {protocol.degradation}, but degradation.kind={config.degradation.kind}"
        )


def check_data(config: StudyConfig, manifest: Manifest) -> None:
    """ValueError naming the setting if prepared data do not fit the study."""
    if manifest.channels != config.architecture.channels:
        raise ValueError(f"data.source: holds {manifest.channels} channels, the network {config.architecture.channels}")
    smallest = min(min(image.height, image.width) for image in manifest.images if image.split == "train")
    if smallest < max(config.search.crop, config.final.crop):
        raise ValueError(f"data.source: a training image has a side of {smallest} pixels, less than the crops")
    if manifest.paired != (config.degradation.kind == "paired"):
        holds, kind = ("pairs", "paired") if manifest.paired else ("clean images only", "gaussian or another")
        raise ValueError(f"data.source: holds {holds}; set degradation.kind={kind}")
    if not manifest.ids("test"):
        raise ValueError("data.source: holds no test images; add a test folder or set data.test_fraction")
    assert config.final.protocol is not None
    try:
        check_form(get_protocol(config.final.protocol, config.degradation), manifest.form)
    except ValueError as error:
        raise ValueError(f"final.protocol: {error}") from None


def _value(config: StudyConfig, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)
