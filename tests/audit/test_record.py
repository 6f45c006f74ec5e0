"""audit.json: what is written is read back, and nothing else is taken for it."""

import dataclasses
import json
import math

import numpy as np
import pytest
from audit_cases import World, small_audit

from irnas_ray.audit.record import Arm, audit_of, read_audit, write_record
from irnas_ray.audit.verdict import judge


@pytest.fixture(scope="module")
def audit():
    return small_audit()


def plain(text: str) -> dict:
    def refused(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refused)


def test_an_audit_is_read_as_it_was_written(audit, tmp_path):
    write_record(audit, tmp_path / "audit.json")
    again = read_audit(tmp_path / "audit.json")
    assert again == dataclasses.replace(audit, tau=again.tau)
    # of a proxy that orders nothing there is no tau, and NaN equals nothing
    assert repr(again.tau) == repr(audit.tau)
    scores = {key: [run.scores for run in arm.runs] for key, arm in again.arms.items()}
    assert judge(scores, draws=1000) == audit.judgement


def test_the_file_says_what_the_judgement_says(audit, tmp_path):
    write_record(audit, tmp_path / "audit.json")
    value = plain((tmp_path / "audit.json").read_text())
    judged = audit.judgement
    for name in ("verdict", "sentence", "delta", "p_value", "icc", "percentile"):
        assert value[name] == getattr(judged, name)
    assert value["interval"] == list(judged.interval)
    assert value["seconds"] == 7265.0
    assert value["arms"]["searched"]["runs"][0]["scores"] == audit.arms["searched"].runs[0].scores
    assert value["tau"]["mixture score"]["value"] == audit.tau["mixture score"].value
    assert value["tau"]["parameters"]["value"] is None


def test_what_is_not_known_is_null_and_read_back(tmp_path):
    audit = small_audit(runs=2)
    write_record(audit, tmp_path / "audit.json")
    assert plain((tmp_path / "audit.json").read_text())["interval"] == [None, None]
    again = read_audit(tmp_path / "audit.json")
    assert again.judgement == audit.judgement and again.judgement.interval == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "irnas_ray.genotype"}, 'field "format" must be "irnas_ray.audit"'),
        ({"version": 2}, "version 2 is unknown"),
        ({"verdict": "proved"}, "verdict: "),
        ({"delta": "large"}, "delta: "),
        ({"arms": {"searched": {"title": "evolution"}}}, "arms.searched.runs: "),
        ({"tau": 3}, "tau: "),
        ({"images": None}, "images: "),
    ],
)
def test_a_file_that_is_something_else_is_refused_by_its_field(audit, tmp_path, change, message):
    path = tmp_path / "audit.json"
    write_record(audit, path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=f"{path}: {message}"):
        read_audit(path)


@pytest.mark.parametrize("text", [None, "{", "[]", '{"format": "irnas_ray.audit", "version": 1}'])
def test_a_file_that_holds_no_audit_is_refused_by_its_name(tmp_path, text):
    path = tmp_path / "audit.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=str(path)):
        read_audit(path)


def changed(audit, key: str, **values) -> dict:
    """The arms of an audit, with another first run in one of them."""
    first, *others = audit.arms[key].runs
    return {**audit.arms, key: Arm(key, [dataclasses.replace(first, **values), *others])}


def test_an_arm_of_another_budget_is_refused(audit):
    cost = dataclasses.replace(audit.arms["random"].runs[0].cost, multiply_adds=5e10)
    with pytest.raises(ValueError, match="budgets are unequal: random, run 0 has 5e[+]10 multiply-adds"):
        audit_of("a", changed(audit, "random", cost=cost), audit.images, 1.0)


def test_controls_are_checked_as_the_other_arms(audit):
    broken = changed(audit, "controls", scores=[[math.nan] * len(audit.images)])
    with pytest.raises(ValueError, match=r'scores\["controls"\]\[0, 0, 0\]: nan'):
        audit_of("a", broken, audit.images, 1.0)
    with pytest.raises(ValueError, match=r'scores\["searched"\]: 12 images, but 11 have names'):
        audit_of("a", audit.arms, audit.images[1:], 1.0)
    with pytest.raises(ValueError, match='"random" is missing'):
        audit_of("a", {key: arm for key, arm in audit.arms.items() if key != "random"}, audit.images, 1.0)


def test_tau_is_of_the_proxies_that_are_given(audit):
    world = World(1.0, 0.0, seed=1)
    score = [float(np.mean(world.trained(world.network()))) for _ in range(6)]
    again = audit_of("a", audit.arms, audit.images, 1.0, {"itself": list(zip(score, score, strict=True))}, draws=100)
    assert list(again.tau) == ["itself"] and again.tau["itself"].value == 1.0
