"""What an audit will run: checked before any work, equal in budget, with seeds of its own everywhere."""

import json

import pytest
import yaml
from audit_folders import Finished, settings

from irnas_ray.audit import arms
from irnas_ray.audit.arms import _conclude, _finished, _make_equal, _study, mean_spent, planned, run_audit
from irnas_ray.audit.record import read_audit
from irnas_ray.results.folder import StudyFolder, as_plain
from irnas_ray.system.exit_status import Incomplete


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    return Finished(settings(f"results={tmp_path_factory.mktemp('results')}"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("minutes=5", "minutes: runs that are cut short by a clock have unequal budgets"),
        ("final.minutes=5", "final.minutes: trainings that are ended by a clock"),
        ("tune.storage=sqlite:///a.db", "tune.storage: the studies of an audit keep their trials"),
        ("tune.warm_start=results/x", "tune.warm_start: runs begin from nothing"),
        ("tune.points=[{search.batch: 2}]", "tune.points: runs begin from nothing"),
        ("tune.perturb_every=2", "tune.perturb_every: random search has no rates"),
        ("tune.objectives=[score,parameters]", "tune.objectives: .*; an audit judges one, the score"),
        ("audit.images=train", "audit.images: unknown 'train'; possible: test, validation"),
        ("search.method=annealing", "search.method: unknown 'annealing'"),
        ("search.population=4", "search.population: 4; less than tune.trials=4"),
    ],
)
def test_what_no_audit_can_be_made_of_is_refused_before_any_work(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_audit(settings(arguments, f"results={tmp_path / 'results'}"))
    assert not (tmp_path / "results").exists()


def test_the_budget_scales_steps_of_searches_and_trainings_alike():
    plans = [planned(settings(f"audit.budget={factor}")) for factor in (1, 0.1)]
    steps = [(plan.searches["random"].search.steps_per_epoch, plan.trained.final.steps) for plan in plans]
    assert steps == [(120, 480), (12, 48)]
    assert plans[0].budgets == {"searched": 1440, "random": 1440} and plans[1].budgets["random"] == 144
    assert all(search.final.scored == "validation" for plan in plans for search in plan.searches.values())


def test_unequal_budgets_are_refused(monkeypatch):
    monkeypatch.setattr(arms, "planned_budget", lambda search, unit: 100 if search.search.method == "random" else 103)
    with pytest.raises(ValueError, match=r"budgets are unequal: searched, run 0 has 103 steps, random, run 0 100"):
        planned(settings())


def test_no_two_trainings_share_a_seed(audit):
    seeds = [candidate.settings["final.seed"] for candidate in audit.candidates]
    # the first training of each of the four runs is that of its own study
    assert sorted([*seeds, 0, 2, 4, 6]) == list(range(2 * len(audit.judged)))
    assert [candidate.rank for candidate in audit.candidates] == list(range(1, len(seeds) + 1))
    assert len({candidate.name for candidate in audit.candidates}) == len(seeds)


def test_what_is_trained_alone_is_the_same_every_time(audit):
    again = Finished(audit.config)
    assert again.candidates == audit.candidates and again.judged == audit.judged and again.facts == audit.facts


def test_mutants_are_those_of_the_network_of_a_with_the_best_validation(audit):
    # seeds rise with the place, and scores with the seed
    assert audit.winners[1].score > audit.winners[0].score
    best = audit.winners[1].genotype
    for one in audit.of("mutants"):
        edges = [edge for cell in one.network.genotype.cells for node in cell for edge in node]
        kept = [edge for cell in best.cells for node in cell for edge in node]
        moved = one.network.genotype.levels != best.levels
        assert sum(a != b for a, b in zip(edges, kept, strict=True)) + moved == 1


def test_studies_lie_in_the_audits_folder_and_go_on_where_they_have_begun(audit):
    own = _study(audit.plan.searches["random"], audit.folder, "random-2", {"tune.seed": 9})
    assert own.resume and own.results == str(audit.folder.path) and own.tune.seed == 9
    assert not _study(audit.plan.searches["random"], audit.folder, "random-3", {}).resume
    audit.plan.searches["random"].cluster.storage = "s3://bucket/prefix"
    assert _study(audit.plan.searches["random"], audit.folder, "x", {}).cluster.storage == "s3://bucket/prefix/a"
    audit.plan.searches["random"].cluster.storage = None


def test_a_finished_study_is_not_run_again_and_an_incomplete_one_is_told_of(audit, capsys):
    left_out: list[str] = []

    def fails(study):
        raise Incomplete("1 final training failed")

    done = _study(audit.plan.searches["random"], audit.folder, "random-1", {})
    _finished(done, lambda study: pytest.fail("it ran again"), left_out)
    assert "study 'random-1' is finished" in capsys.readouterr().out and left_out == []
    _finished(_study(done, audit.folder, "random-5", {}), fails, left_out)
    assert left_out == ["random-5: 1 final training failed"]


def test_random_search_goes_on_until_it_has_spent_as_much(audit, capsys, monkeypatch):
    """Of 4,000 multiply-adds of four trials, random search is given 9,500 to spend."""
    study = _study(audit.plan.searches["random"], audit.folder, "random-1", {})
    assert mean_spent(audit.plan, audit.folder, 2) == 4000
    records, asked = audit.folder.study("random-1").records, []
    kept, settings_before = records.read_text(), StudyFolder(study).config.read_text()

    def goes_on(own):
        asked.append(own.tune.trials)
        assert own.resume
        StudyFolder(own).config.write_text(yaml.safe_dump(as_plain(own)))
        trials = json.loads(kept)
        more = {"training_multiply_adds": 800}
        extra = [trials[0] | {"id": f"more-{number}"} | more for number in range(own.tune.trials - len(trials))]
        records.write_text(json.dumps(trials + extra))

    monkeypatch.setattr(arms, "run_study", goes_on)
    _make_equal(study, 4000, [])
    assert asked == []
    _make_equal(study, 9500, [])
    # 1,000 a trial: six more, which spend 800 each; then one more
    assert asked == [10, 11]
    assert "study 'random-1' goes on: 4000 of 9500 multiply-adds are spent" in capsys.readouterr().out
    # an audit that is continued takes it as it is
    assert _study(audit.plan.searches["random"], audit.folder, "random-1", {}).tune.trials == 11
    monkeypatch.setattr(arms, "run_study", lambda own: asked.append(own.tune.trials))
    _make_equal(study, 1e6, [])
    assert len(asked) == 3  # one that spends nothing more is not asked for ever
    records.write_text(kept)
    StudyFolder(study).config.write_text(settings_before)


def test_the_verdict_is_printed_and_written(audit, capsys):
    page = _conclude(audit.config, audit.plan, audit.folder, audit.judged, audit.facts, 60.0, [])
    said = capsys.readouterr().out
    assert "no evidence: R = 2 can show nothing" in said and "D controls: DnCNN" in said
    record = read_audit(page.with_name("audit.json"))
    assert record.judgement.counts == (2, 2, 3) and record.facts["method"] == "evolution"
    assert record.facts["budget of a run"] == (
        "at most 1440 steps; random search 1440 steps, and more until it has spent as many multiply-adds as A"
    )
    assert record.facts["images"] == "2, test (opened once, after the last training)"
    assert "within 15% of the multiply-adds of a network of A" in record.facts["uniform networks"]
    with pytest.raises(Incomplete, match="the audit is finished, but searched-1: something"):
        _conclude(audit.config, audit.plan, audit.folder, audit.judged, {}, 60.0, ["searched-1: something"])
