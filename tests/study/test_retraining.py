"""Networks that are named instead of searched: what is compared with what, and what a training leaves behind."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from command_line_cases import ROOT

from irnas_ray.datasets.whole_images import ImageRecord
from irnas_ray.evaluation.scores import evaluate
from irnas_ray.genotypes.macro import Macro
from irnas_ray.genotypes.published import load_genotype
from irnas_ray.networks.checkpoints import load_network
from irnas_ray.networks.inference import restorer
from irnas_ray.networks.registry import make_peer
from irnas_ray.results.layout import StudyLayout
from irnas_ray.settings.study import Final, RetrainConfig, with_values
from irnas_ray.study.candidates import Candidate
from irnas_ray.study.final_training import write_final
from irnas_ray.study.finals import evaluation_of
from irnas_ray.study.retraining import candidates_of
from irnas_ray.training.training import Training

SMALL: dict[str, Any] = {"final.width": 2, "final.stem_channels": 4, "final.aspp_channels": 4}
SMALL |= {"final.low_level_channels": 2, "genotype": "irnas_denoise", "architecture.layers": 1, "architecture.nodes": 1}


def make_config(compare: dict[str, Any] | None = None, **values: Any) -> RetrainConfig:
    return with_values(RetrainConfig(), SMALL | {"compare": compare or {}} | values)


def names(compare: dict[str, Any], **values: Any) -> list[str]:
    return [candidate.name for candidate in candidates_of(make_config(compare, **values))]


def test_without_a_comparison_there_is_one_network():
    (only,) = candidates_of(make_config())
    assert (only.rank, only.name, only.kind, only.settings) == (1, "irnas_denoise", "genotype", {})
    assert only.genotype == load_genotype("irnas_denoise")
    (peer,) = candidates_of(make_config(network="dncnn", network_arguments={"depth": 3, "width": 4}, genotype=""))
    assert (peer.name, peer.kind, peer.arguments, peer.genotype) == ("dncnn", "dncnn", {"depth": 3, "width": 4}, None)
    network = peer.make_network(make_config())
    assert network.arguments() == {"channels": 1, "depth": 3, "width": 4}


def test_table_4_compares_genotypes(tmp_path):
    cells = ["irnas_denoise", "irnas_denoise_r1", "irnas_denoise_r2"]
    candidates = candidates_of(make_config({"genotype": cells}))
    assert [(c.rank, c.name, c.genotype) for c in candidates] == [
        (rank, cell, load_genotype(cell)) for rank, cell in enumerate(cells, start=1)
    ]
    # files of one name in several folders stay apart
    paths = [str(tmp_path / str(index) / "genotype.json") for index in range(2)]
    for path, cell in zip(paths, cells, strict=False):
        load_genotype(cell).save(path)
    assert names({"genotype": paths}) == paths


def test_tables_5_and_6_compare_settings_of_the_training():
    config = make_config({"final.ssim_weight": [0, 0.5], "final.sigma": [30, 50]})
    candidates = candidates_of(config)
    shown = ["ssim_weight=0, sigma=30", "ssim_weight=0, sigma=50", "ssim_weight=0.5, sigma=30"]
    assert [candidate.name for candidate in candidates][:3] == [f"irnas_denoise, {text}" for text in shown]
    changed = [with_values(config, candidate.settings).final for candidate in candidates]
    assert [(final.ssim_weight, final.sigma) for final in changed] == [(0, 30), (0, 50), (0.5, 30), (0.5, 50)]
    assert len({json.dumps(candidate.identity()) for candidate in candidates}) == 4


def test_a_peer_is_trained_once_beside_several_genotypes():
    compare = {"genotype": ["irnas_denoise", "irnas_denoise_r1"], "network": ["genotype", "dncnn"]}
    arguments = {"depth": 3, "width": 4}
    found = candidates_of(make_config(compare, network_arguments=arguments))
    assert [(c.rank, c.name) for c in found] == [(1, "irnas_denoise"), (2, "dncnn"), (3, "irnas_denoise_r1")]
    sizes: dict[str, Any] = {"network_arguments": [{"depth": 2, "width": 3}, {"depth": 4, "width": 3}]}
    assert names(sizes, network="dncnn") == ["dncnn, depth=2, width=3", "dncnn, depth=4, width=3"]


WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"final.ssim_weight": 0.5}, {}, r"compare.final.ssim_weight: 0.5; give a list of values"),
    ({"final.ssim_weight": []}, {}, r"compare.final.ssim_weight: \[\]; give a list"),
    ({"final.lr": [0.1, 0.1]}, {}, "holds a value twice"),
    ({"data.patch": [64, 96]}, {}, "compare.data.patch: cannot differ within a table; possible: genotype, network"),
    ({"final.protocol": ["images-gray", "photographs-gray"]}, {}, "compare.final.protocol: cannot differ"),
    ({"final.images": [1, 2]}, {}, "compare.final.images: cannot differ"),
    ({"final.lrr": [0.1]}, {}, "final.lrr: there is no such setting; possible: .*ssim_weight"),
    ({"final.optimizer": ["adam", "lion"]}, {}, "compare: optimizer=lion: final.optimizer: unknown 'lion'"),
    ({"final.warmup": ["much"]}, {}, "compare: warmup=much are not of the settings' types"),
    ({"genotype": ["irnas_denoise", "irnas"]}, {}, "compare: genotype=irnas: .*names: irnas_denoise"),
    ({"network": ["genotype", "dncn"]}, {}, "compare: network=dncn: .*unknown 'dncn'"),
    ({}, {"genotype": ""}, "^genotype: is missing; give it as genotype=FILE, or choose network=NAME"),
    ({}, {"network": "dncn"}, "^network: unknown 'dncn'"),
    ({}, {"network": "dncnn", "network_arguments": {"dept": 1}}, "^network_arguments: dncnn cannot be built"),
    ({}, {"network_arguments": {"width": 3}}, "^network_arguments: a genotype's network takes none"),
    ({}, {"architecture.multipliers": [1, 1.5, 2]}, "its widths are .*name the space that found it"),
]


@pytest.mark.parametrize(("compare", "values", "message"), WRONG)
def test_an_impossible_comparison_is_named_before_any_work(compare, values, message):
    with pytest.raises(ValueError, match=message):
        candidates_of(make_config(compare, **values))


def test_channels_that_none_of_the_networks_has_are_not_compared(tmp_path):
    plain = tmp_path / "plain.json"
    macro = Macro(normalisation="none", aspp=False, low_level=False, head="linear")
    replace(load_genotype("irnas_denoise"), macro=macro).save(plain)
    channels = {"final.aspp_channels": [4, 8]}
    with pytest.raises(ValueError, match=r"compare.final.aspp_channels: no network .*need architecture.aspp=true or"):
        candidates_of(make_config(channels, genotype=str(plain)))
    # the paper's cells have them; what is equal for the other network is trained once
    assert names(channels | {"genotype": [str(plain), "irnas_denoise"]}) == [
        str(plain),
        "irnas_denoise, aspp_channels=4",
        "irnas_denoise, aspp_channels=8",
    ]


def test_a_genotype_in_its_study_is_trained_as_it_was_found(tmp_path: Path, capsys: Any) -> None:
    genotype = load_genotype("irnas_denoise")
    plain = json.loads(genotype.to_json())
    own = {"final.width": 4, "final.lr": 0.25, "search.crop": 48}
    final, trial, copied = (tmp_path / place for place in ("finals/1/genotype.json", "genotypes/7.json", "copied.json"))
    for path in (final, trial, copied):
        genotype.save(path)
    final.with_name("metrics.json").write_text(json.dumps({"genotype": plain, "settings": own}))
    StudyLayout(tmp_path).records.parent.mkdir()
    records = [
        {"id": "a", "name": "6", "genotype": None, "config": {}},
        {"id": "b", "name": "7", "genotype": plain, "config": own},
    ]
    StudyLayout(tmp_path).records.write_text(json.dumps(records))
    for path in (final, trial):
        capsys.readouterr()
        # a value that the space does not tune is the user's
        tuned = make_config(
            genotype=str(path), domains={"final.width": None, "final.warmup": None, "search.crop": None}
        )
        (found,) = candidates_of(tuned)
        assert found.settings == {"final.width": 4} and found.name.endswith(", width=4")
        assert capsys.readouterr().out.count("\n") == 1
        compared = candidates_of(with_values(tuned, {"compare": {"final.width": [2, 6]}}))
        assert [one.settings for one in compared] == [{"final.width": 2}, {"final.width": 6}]
        assert candidates_of(make_config(genotype=str(path)))[0].settings == {}
    capsys.readouterr()
    (found,) = candidates_of(make_config(genotype=str(copied), domains={"final.width": None}))
    assert found.settings == {} and f"final.width is 2: {copied} does not say" in capsys.readouterr().out
    # edited since
    replace(genotype, levels=(0, 0, 0, 0)).save(final)
    (found,) = candidates_of(make_config(genotype=str(final), domains={"final.width": None}))
    assert found.settings == {} and "final.width is 2" in capsys.readouterr().out
    final.with_name("metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics.json cannot be read"):
        candidates_of(make_config(genotype=str(final), domains={"final.width": None}))


def test_what_shapes_genotypes_networks_repeats_no_training_of_others():
    shapes = {"final.width": [4, 8], "final.lr": [0.1, 0.2]}
    found = names({"network": ["genotype", "dncnn"]} | shapes)
    assert [name for name in found if name.startswith("dncnn")] == ["dncnn, lr=0.1", "dncnn, lr=0.2"]
    assert len(found) == 6
    with pytest.raises(ValueError, match="compare.final.width: shapes networks of genotypes, and none is compared"):
        candidates_of(make_config(shapes, network="dncnn"))


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_network_pt_is_the_best_validation_and_last_pt_the_end(tmp_path: Path, ema_decay: float | None) -> None:
    scores = iter([3.0, 9.0, 5.0])
    torch.manual_seed(0)
    study = make_config(**{"final.protocol": "photographs-gray", "network": "dncnn"})
    candidate = Candidate(
        2, "dncnn, lr=1", "dncnn", None, settings={"final.lr": 1}, kind="dncnn", arguments={"depth": 3}
    )
    batches = [(torch.rand(2, 1, 12, 12), torch.rand(2, 1, 12, 12))]
    training = Training(
        make_peer("dncnn", 1, {"depth": 3, "width": 4}),
        batches,
        lambda network: {"psnr": next(scores), "ssim": 0.5},
        steps=3,
        validate_every=1,
        lr=0.01,
        ema_decay=ema_decay,
    )
    weights = []
    while not training.finished:
        now = training.run()
        weights.append({name: value.clone() for name, value in training.validated.state_dict().items()})
    test = [ImageRecord("camera", np.ascontiguousarray(skimage.data.camera()[None, :40, :50]), None)]
    write_final(training, study, test, candidate, now, tmp_path)
    for file, expected in (("network.pt", weights[1]), ("last.pt", weights[2])):
        network, notes = load_network(tmp_path / file)
        found = network.state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
        assert notes["protocol"] == "photographs-gray" and notes["sigma"] == 50
        assert (notes["step"], notes["validation_psnr"]) == ((2, 9.0) if file == "network.pt" else (3, 5.0))
    # writing a final does not change the training, whose state is saved beside it
    assert all(torch.equal(training.validated.state_dict()[name], value) for name, value in weights[2].items())
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    scored = evaluate(restorer(load_network(tmp_path / "network.pt")[0]), test, "photographs-gray", 50, name="x")
    assert metrics["psnr"] == scored.psnr and math.isfinite(scored.psnr)
    assert evaluation_of(metrics).method == "dncnn, lr=1" == metrics["name"]
    expected_facts = {"rank": 2, "kind": "dncnn", "genotype": None, "steps": 3, "best_step": 2, "validation_psnr": 9.0}
    assert {key: metrics[key] for key in expected_facts} == expected_facts
    assert metrics["settings"] == {"final.lr": 1} and not (tmp_path / "genotype.json").exists()
    assert (
        (tmp_path / "images" / "camera.png").exists()
        and (tmp_path / "sheet.png").exists()
        and (tmp_path / "scores.csv").exists()
    )


def test_final_trainings_of_the_first_layout_are_still_those_of_the_same_run() -> None:
    """Their settings name the run, so that a finished study trains nothing again."""
    settings = StudyLayout(ROOT / "tests" / "data" / "first_layout" / "finished").read_settings()["final"]
    assert Final(**settings).identity() == settings
