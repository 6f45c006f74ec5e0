"""One audit from its command to its page, stopped before the trainings of single networks and continued."""

import json
from pathlib import Path

import pytest

from irnas_ray.audit import arms
from irnas_ray.audit.record import read_audit
from irnas_ray.cli.command_line import compose_settings
from irnas_ray.settings.audit import AuditConfig

pytestmark = pytest.mark.whole

#: As little as there can be: two trials of two steps in each of two runs, and seven trainings of two steps.
LEAST = (
    "search_spaces=compact domains={} architecture.layers=1 architecture.nodes=1 search.epochs=2 search.batch=2"
    " search.warmup_epochs=1 search.steps_per_epoch=1 search.population=2 tune.trials=3 tune.grace_epochs=1"
    " final.width=4 final.batch=2 final.steps=2"
    " final.validate_every=2 final.images=1 audit.runs=1 audit.seeds=1 audit.networks=2 audit.mutants=1 study=small"
).split()


def settings(results: Path, *arguments: str) -> AuditConfig:
    return compose_settings("audit", AuditConfig, [*LEAST, f"results={results}", *arguments])


def test_an_audit_is_stopped_and_continued(
    ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(arms, "run", stopped)
        arms.run_audit(settings(tmp_path))
    folder = tmp_path / "small"
    assert not [*folder.glob("*/finals/*/test_scores.json")]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*-1/summary.json")}
    assert len(before) == 2
    with pytest.raises(ValueError, match="study 'small' exists in .*; continue it with resume=true"):
        arms.run_audit(settings(tmp_path))
    capsys.readouterr()

    page = arms.run_audit(settings(tmp_path, "resume=true"))
    said = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert said.count("is finished\n") == 2 and "no evidence: R = 1 can show nothing" in said
    assert said.index("[finals") < said.index("test images: 1, opened now; 9 networks are scored on them")
    for path in folder.glob("*/finals/*/metrics.json"):
        metrics = json.loads(path.read_text())
        assert metrics["scored"] == "validation"
        opened = json.loads(path.with_name("test_scores.json").read_text())
        assert {x["image_id"] for x in opened["scores"]}.isdisjoint(
            x["image_id"] for x in metrics["evaluation"]["scores"]
        )
    record = read_audit(page.with_name("audit.json"))
    assert {arm: len(one.runs) for arm, one in record.arms.items()} == {
        "searched": 1,
        "random": 1,
        "uniform": 2,
        "controls": 4,
        "mutants": 1,
    }
    costs = [record.arms[arm].runs[0].cost for arm in ("searched", "random")]
    assert [cost.trainings for cost in costs] == [3, 3] and all(cost.multiply_adds > 0 for cost in costs)
    assert page.exists() and (folder / "arms.png").exists() and record.seconds > 0
