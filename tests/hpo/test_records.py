"""Records of trials come from the Optuna study alone, which is told of a trial before Tune has written anything."""

import json

import optuna
from ledger_cases import make_search, report

from irnas_ray.genotypes.published import load_genotype
from irnas_ray.hpo.records import ended_since, records_of

GENOTYPE = load_genotype("irnas_derain").to_json(indent=None)


def test_what_has_ended_is_recorded_with_all_that_it_found() -> None:
    search = make_search(None, replicates=2)
    for trial in "abc":
        search.suggest(trial)
    found = {"genotype": GENOTYPE, "margins": '[{"margin": 0.5}]', "lineage": "[1]", "psnr": 21.0, "micro_batch": 2}
    search.on_trial_complete("a", report(search, "a", 20.0, **found))
    search.on_trial_complete("b", report(search, "b", 22.0, finished=False) | {"error": "the loss became nan"})
    report(search, "c", 23.0, finished=False)
    finished, failed = ended_since(search.study, [])
    (study_trial, _) = search.study.trials
    assert finished == {
        **dict.fromkeys(finished),
        "id": "a",
        "configuration": 0,
        "state": "COMPLETE",
        "config": {**study_trial.params, "seed": 3},
        "score": 20.0,
        "psnr": 21.0,
        "digest": "abc",
        "micro_batch": 2,
        "genotype": json.loads(GENOTYPE),
        "margins": [{"margin": 0.5}],
        "lineage": [1],
    }
    assert (failed["id"], failed["state"], failed["error"]) == ("b", "FAIL", "the loss became nan")
    assert failed["genotype"] is None and failed["margins"] == [] and "micro_batch" not in failed
    assert [record["state"] for record in records_of(search.study.trials[1])] == ["RUNNING"]


def test_records_are_of_new_configurations_and_of_our_own_trials() -> None:
    search = make_search(None)
    for trial in "ab":
        search.suggest(trial)
        search.on_trial_complete(trial, report(search, trial, 20.0))
    search.study.add_trial(optuna.trial.create_trial(value=99.0))
    first, second = ended_since(search.study, [])
    assert (first["id"], second["id"]) == ("a", "b")
    assert ended_since(search.study, [first]) == [second]
