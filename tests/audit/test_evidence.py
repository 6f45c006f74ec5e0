"""What finished studies' folders say: scores, costs, trails, proxies; and what is left out."""

import json
import shutil

import pytest
from audit_folders import Finished, settings

from irnas_ray.audit.evidence import arms_of, is_finished, proxies_of, run_name, seconds_of, trail_of, winner_of
from irnas_ray.results.layout import FinalLayout
from irnas_ray.results.study_results import read_study
from irnas_ray.settings.study import with_values


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    return Finished(settings(f"results={tmp_path_factory.mktemp('results')}"))


@pytest.fixture
def own(audit, tmp_path):
    """A copy that a test may damage."""
    results = tmp_path / "own"
    shutil.copytree(audit.folder.path.parent, results)
    return Finished(with_values(audit.config, {"results": str(results)}))


def test_arms_have_the_scores_of_their_own_trainings(audit):
    arms, ids, missing = arms_of(audit.judged, audit.folder, "validation", {})
    assert {arm: len(one.runs) for arm, one in arms.items()} == {
        "searched": 2,
        "random": 2,
        "uniform": 3,
        "controls": 4,
        "mutants": 2,
    }
    assert ids == ["image 0", "image 1", "image 2"] and missing == []
    assert arms["controls"].one_by_one and not arms["mutants"].one_by_one
    # network n of all that are judged is trained with seeds 2 n and 2 n + 1
    runs = [run for arm in arms.values() for run in arm.runs]
    for place, run in enumerate(runs):
        assert run.scores == [[25 + seed / 100 + image for image in range(3)] for seed in (2 * place, 2 * place + 1)]
    opened, ids, _ = arms_of(audit.judged, audit.folder, "test", {})
    assert ids == ["test 0", "test 1"] and opened["random"].runs[0].scores[1] == [26.05, 27.05]


def test_a_run_costs_what_its_trials_did(audit):
    arms, _, _ = arms_of(audit.judged, audit.folder, "validation", {"searched": 5e6})
    cost = arms["searched"].runs[1].cost
    assert (cost.trainings, cost.steps, cost.multiply_adds, cost.seconds) == (4, 40, 4000.0, 12.0)
    assert cost.judging_seconds == 4.0
    alone = arms["uniform"].runs[0].cost
    assert (alone.trainings, alone.multiply_adds, alone.judging_seconds) == (0, 0.0, 4.0)
    # the third trial was stopped early
    assert arms["random"].runs[0].trail == [(1000.0, 22.0), (2000.0, 23.0), (4000.0, 25.0)]
    assert seconds_of(audit.folder, ["searched-1", "random-2"]) == 10.0


def test_trials_with_a_supernet_cost_their_share_of_the_steps(own):
    path = own.folder.study("searched-1").records
    records = json.loads(path.read_text())
    for record, steps in zip(records, (40, 10, 20, 40), strict=True):
        del record["training_multiply_adds"]
        record["steps"] = steps
    path.write_text(json.dumps(records))
    summary = own.folder.study("searched-1").summary
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"trials": records}))
    arms, _, _ = arms_of(own.judged, own.folder, "validation", {"searched": 4e6})
    assert [cost for cost, _ in arms["searched"].runs[0].trail] == [4e6, 5e6, 11e6]


def test_a_trail_leaves_out_what_has_no_score():
    records = [
        {"state": "COMPLETE", "score": None},
        {"state": "FAIL", "score": 9.0},
        {"state": "COMPLETE", "score": 1.0},
    ]
    assert trail_of(records, [1.0, 2.0, 4.0]) == [(7.0, 1.0)]


def test_proxies_are_of_all_networks_for_which_they_are_known(audit):
    arms, _, _ = arms_of(audit.judged, audit.folder, "validation", {})
    proxies = proxies_of(audit.judged, arms, audit.folder, audit.plan.searches["searched"])
    assert {name: len(values) for name, values in proxies.items()} == {
        "score at epoch 1": 4,
        "score of the trial": 4,
        "parameters": 9,
        "multiply-adds": 9,
    }
    first = arms["searched"].runs[0]
    mean = sum(map(sum, first.scores)) / 6
    assert proxies["score at epoch 1"][0] == (23.0, pytest.approx(mean))
    assert proxies["score of the trial"][0] == (25.0, pytest.approx(mean))
    assert proxies["multiply-adds"][0] == (first.multiply_adds_per_pixel, pytest.approx(mean))


def test_a_network_without_all_its_scores_is_left_out_and_named(own):
    shutil.rmtree(own.of("uniform")[1].finals[1])
    arms, _, missing = arms_of(own.judged, own.folder, "validation", {})
    assert missing == ["uniform 2"] and [run.name for run in arms["uniform"].runs] == ["uniform 1", "uniform 3"]
    shutil.rmtree(own.of("random")[1].finals[1])
    with pytest.raises(ValueError, match="random 2: 1 of its 2 trainings have a score, and no run can be left out"):
        arms_of(own.judged, own.folder, "validation", {})


def test_scores_on_other_images_are_refused(own):
    path = FinalLayout(own.of("mutants")[0].finals[0]).metrics
    metrics = json.loads(path.read_text())
    metrics["evaluation"]["scores"][0]["image_id"] = "another"
    path.write_text(json.dumps(metrics))
    with pytest.raises(ValueError, match="mutant 1: scored on other images than searched 1"):
        arms_of(own.judged, own.folder, "validation", {})


def test_a_search_whose_winner_could_not_be_trained_has_none(own):
    study = own.folder.study("searched-2")
    shutil.rmtree(study.final(1))
    with pytest.raises(ValueError, match="searched-2: the training of what this search has found has failed"):
        winner_of(study, "searched 2")


def test_a_study_is_finished_only_under_the_settings_that_it_ran_with(own):
    config = own.plan.searches["random"]
    config = with_values(config, {"study": run_name("random", 0), "results": str(own.folder.path)})
    assert is_finished(with_values(config, {"resume": True, "cluster.cpus_per_trial": 2}))
    assert not is_finished(with_values(config, {"study": "random-9"}))
    assert not is_finished(with_values(config, {"final.steps": 7}))
    assert not is_finished(with_values(config, {"tune.trials": 5}))
    own.folder.study("random-1").summary.unlink()
    assert not is_finished(config)


def test_an_audit_is_no_study(audit):
    with pytest.raises(ValueError, match=r"is an audit, whose page is audit.html; studies in .*: random-1, random-2"):
        read_study(audit.folder.path)
    assert read_study(audit.folder.path / "searched-1").best()["id"] == "trial3"
