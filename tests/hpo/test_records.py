"""Records of trials come from the Optuna study alone, which is told of a trial before Tune has written anything."""

import json

import optuna
from ledger_cases import make_ledger, report

from irnas_ray.genotypes.published import load_genotype
from irnas_ray.hpo.records import ended_since, name_of, records_of

GENOTYPE = load_genotype("irnas_derain").to_json(indent=None)


def test_what_has_ended_is_recorded_with_all_that_it_found() -> None:
    ledger = make_ledger(None, replicates=2)
    for trial in "abc":
        ledger.suggest(trial)
    found = {"genotype": GENOTYPE, "margins": '[{"margin": 0.5}]', "lineage": "[1]", "psnr": 21.0, "micro_batch": 2}
    ledger.end("a", report(ledger, "a", 20.0, **found))
    ledger.end("b", report(ledger, "b", 22.0, finished=False) | {"error": "the loss became nan"})
    report(ledger, "c", 23.0, finished=False)
    finished, failed = ended_since(ledger.study, [])
    (study_trial, _) = ledger.study.trials
    assert finished == {
        **dict.fromkeys(finished),
        "id": "a",
        "name": "0-0",
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
    assert (failed["id"], failed["name"], failed["state"], failed["error"]) == (
        "b",
        "0-1",
        "FAIL",
        "the loss became nan",
    )
    assert failed["genotype"] is None and failed["margins"] == [] and "micro_batch" not in failed
    assert [record["state"] for record in records_of(ledger.study.trials[1])] == ["RUNNING"]


def test_records_are_of_new_configurations_and_of_our_own_trials() -> None:
    ledger = make_ledger(None)
    for trial in "ab":
        ledger.suggest(trial)
        ledger.end(trial, report(ledger, trial, 20.0))
    ledger.study.add_trial(optuna.trial.create_trial(value=99.0))
    first, second = ended_since(ledger.study, [])
    assert (first["id"], second["id"]) == ("a", "b")
    assert (name_of(first), name_of(second)) == ("0", "1") and name_of({"id": "c3a1fff5"}) == "c3a1fff5"
    assert ended_since(ledger.study, [first]) == [second]
