"""A batch over real sockets: what becomes of many inputs, over several worker parts, tries and runs."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_segmind.exceptions import SegmindBatchError
from airflow_provider_segmind.operators.bria import BriaEraseForegroundBatchOperator
from airflow_provider_segmind.operators.segmind import SegmindRunModelBatchOperator
from tests.operators.task import Task
from tests.photos import photo, subject_pixels

pytestmark = pytest.mark.usefixtures("quick_jobs")


class Batch:
    """A batch of local photos; each ``task`` is a run of its own unless it gets the same run id."""

    def __init__(self, folder):
        self.source, self.results = folder / "in", folder / "out"
        self.runs = 0

    def put(self, *names, shade=0):
        for number, name in enumerate(names):
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # Of different sizes and above 1 KB, so that the request history can tell them apart by their beginnings.
            path.write_bytes(photo(shade + number, size=(480 + number, 360)))

    def task(self, *, run_id=None, operator=BriaEraseForegroundBatchOperator, **options):
        self.runs += 1
        if operator is BriaEraseForegroundBatchOperator:
            options.setdefault("images", f"{self.source}/")
        options = {"destination": f"{self.results}/", "timeout": 30, **options}
        task = Task(lambda: operator(task_id="erase", **options))
        task.ti.max_tries = 3
        task.ti.run_id = run_id or f"run_{self.runs}"
        return task

    def stored(self):
        return sorted(str(path.relative_to(self.results)) for path in self.results.rglob("[!.]*.png"))

    def rows(self, task, name="manifest"):
        text = self.state(task).joinpath(f"{name}.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def statuses(self, task):
        return [row["status"] for row in self.rows(task)]

    def ledger_entries(self):
        return [json.loads(path.read_text()) for path in (self.results / "_segmind" / "ledger").glob("*.json")]

    def state(self, task):
        return self.results / "_segmind" / "runs" / task.ti.dag_id / task.ti.run_id / "erase"


@pytest.fixture
def batch(segmind, tmp_path):
    return Batch(tmp_path)


def test_each_photo_below_a_prefix_is_erased_into_the_same_folder_below_the_destination(segmind, batch):
    batch.put("a.png", "cups/b.png", "cups/old/c.PNG")
    summary = batch.task().run()

    assert batch.stored() == ["a.png", "cups/b.png", "cups/old/c.png"]
    assert all(subject_pixels((batch.results / name).read_bytes()) == 0 for name in batch.stored())
    assert (summary["total"], summary["completed"], len(segmind.jobs)) == (3, 3, 3)


def test_the_manifest_has_a_line_for_each_input(batch, segmind):
    batch.put("a.png", "b.png")
    task = batch.task()
    summary = task.run()

    rows = batch.rows(task)
    assert [row["source"] for row in rows] == [f"{batch.source}/a.png", f"{batch.source}/b.png"]
    assert [row["uri"] for row in rows] == [f"{batch.results}/a.png", f"{batch.results}/b.png"]
    assert {row["request_id"] for row in rows} == {job.request_id for job in segmind.jobs}
    assert sum(row["cost"] for row in rows) == pytest.approx(summary["cost"]) == pytest.approx(segmind.jobs.spent)
    assert set(rows[0]) == {"source", "uri", "status", "request_id", "cost", "seconds", "error"}
    assert summary["manifest"] == str(batch.state(task) / "manifest.jsonl")


def test_a_second_run_pays_only_for_what_is_new_or_was_replaced(segmind, batch):
    batch.put("a.png", "b.png")
    batch.task().run()
    batch.put("b.png", "c.png", shade=50)
    task = batch.task()
    summary = task.run()

    assert batch.statuses(task) == ["skipped", "completed", "completed"]
    assert (summary["skipped"], summary["completed"], len(segmind.jobs)) == (1, 2, 4)


def test_overwrite_pays_for_each_photo_again_in_a_new_run(segmind, batch):
    batch.put("a.png", "b.png")
    for _ in range(2):
        batch.task(if_exists="overwrite").run()

    assert len(segmind.jobs) == 4


def test_a_bad_entry_of_a_list_is_a_line_of_the_manifest_and_the_others_go_on(batch):
    batch.put("a.png")
    (batch.source / "text.png").write_text("not a picture")
    images = [f"{batch.source}/a.png", None, "s3:/bucket/key.png", f"{batch.source}/no.png", f"{batch.source}/text.png"]
    task = batch.task(images=images, max_failures=4)
    summary = task.run()

    assert batch.statuses(task) == ["completed", "failed", "failed", "missing", "failed"]
    assert "two slashes" in batch.rows(task)[2]["error"]
    assert (summary["completed"], summary["failed"], summary["missing"]) == (1, 3, 1)


def test_more_failures_than_allowed_fail_the_task_when_all_others_are_stored(batch):
    batch.put("a.png", "b.png")
    task = batch.task(images=[f"{batch.source}/no.png", f"{batch.source}/a.png", f"{batch.source}/b.png"])
    with pytest.raises(SegmindBatchError, match=r"1 of 3 inputs failed, and max_failures=0 allows 0"):
        task.run()

    assert batch.stored() == ["a.png", "b.png"]


def test_a_retry_does_only_what_failed(segmind, batch):
    batch.put("a.png")
    images = [f"{batch.source}/a.png", f"{batch.source}/late.png"]
    task = batch.task(images=images)
    with pytest.raises(SegmindBatchError):
        task.run()
    batch.put("late.png", shade=5)
    summary = task.run()

    assert (summary["completed"], len(segmind.jobs)) == (2, 2)
    assert batch.statuses(task) == ["completed", "completed"]


def test_the_list_of_failures_is_a_list_for_another_run(segmind, batch):
    batch.put("a.png")
    failing = batch.task(images=[f"{batch.source}/a.png", f"{batch.source}/late.png"], max_failures=1)
    failing.run()
    batch.put("late.png", shade=5)
    summary = batch.task(images=str(batch.state(failing) / "failed.jsonl")).run()

    assert (summary["total"], summary["completed"], len(segmind.jobs)) == (1, 1, 2)


def test_two_photos_that_would_get_one_name_are_refused_before_anything_is_paid_for(segmind, batch):
    batch.put("a/cup.png", "b/cup.png")
    with pytest.raises(AirflowFailException, match=r"a/cup\.png and .*b/cup\.png"):
        batch.task(name_template="{stem}.{ext}").run()

    assert len(segmind.jobs) == 0


def test_an_input_that_is_listed_twice_is_paid_for_once(segmind, batch):
    batch.put("a.png")
    task = batch.task(images=[f"{batch.source}/a.png"] * 3)
    summary = task.run()

    assert (len(segmind.jobs), summary["completed"], summary["skipped"]) == (1, 1, 2)
    assert len({row["uri"] for row in batch.rows(task)}) == 1


@pytest.mark.parametrize("images", [[], "prefix"])
def test_a_batch_without_any_input_succeeds(segmind, batch, images):
    batch.source.mkdir()
    summary = batch.task(**({} if images == "prefix" else {"images": images})).run()

    assert (summary["total"], len(segmind.jobs)) == (0, 0)


def test_a_result_that_another_run_stores_meanwhile_is_not_paid_for_again(segmind, batch):
    batch.put("a.png", "b.png")
    slow = batch.task(max_wave=1)
    deferral = slow.submit()
    batch.task().run()
    outcome = slow.resume(slow.wait(deferral))

    assert (len(segmind.jobs), outcome["completed"], outcome["skipped"]) == (2, 1, 1)


def test_a_batch_works_in_waves(segmind, batch):
    batch.put(*[f"{number}.png" for number in range(7)])
    task = batch.task(max_wave=3)
    summary = task.run()

    assert [len(kwargs["jobs"].split()) - 1 for _, kwargs in task.triggers] == [3, 3, 1]
    assert (summary["completed"], len(segmind.jobs)) == (7, 7)


def test_without_deferral_the_worker_does_all_waves_itself(segmind, batch):
    batch.put(*[f"{number}.png" for number in range(5)])
    task = batch.task(max_wave=3, deferrable=False)
    summary = task.run()

    assert (task.triggers, summary["completed"], len(segmind.jobs)) == ([], 5, 5)


def test_one_slow_job_of_a_full_wave_does_not_hold_up_the_inputs_behind_it(segmind, batch):
    batch.put(*[f"{number:02}.png" for number in range(12)])
    segmind.faults.add("job_takes", on="submit", seconds=20)
    task = batch.task(max_wave=10)
    first = task.submit()
    second = task.resume(task.wait(first))

    assert segmind.jobs[0].finished is None
    assert len(segmind.jobs) == 12
    assert len(second.trigger.jobs) == 3


def test_a_batch_stops_at_its_max_cost_and_a_higher_one_goes_on(segmind, batch):
    batch.put(*[f"{number}.png" for number in range(5)])
    task = batch.task(max_cost=0.1)  # a job costs 0.03 at the emulator
    with pytest.raises(AirflowFailException, match=r"max_cost=0\.1 is reached.*2 of 5 inputs are left"):
        task.run()
    assert (batch.statuses(task), len(batch.stored())) == (["completed"] * 3 + ["failed"] * 2, 3)

    richer = batch.task(max_cost=1.0, run_id=task.ti.run_id)
    assert (richer.run()["completed"], len(segmind.jobs)) == (5, 5)


def test_a_photo_that_moderation_blocks_is_a_failure_unless_blocks_are_to_be_skipped(segmind, batch):
    batch.put("a.png", "b.png")
    segmind.faults.add("moderation_block")
    task = batch.task(on_moderation_block="skip")
    summary = task.run()

    assert (summary["blocked"], summary["completed"]) == (1, 1)
    assert sorted(batch.statuses(task)) == ["blocked", "completed"]


def test_a_failed_job_is_a_line_that_says_why_and_costs_nothing(segmind, batch):
    batch.put("a.png")
    segmind.faults.add("job_fails", text="CUDA out of memory")
    task = batch.task(max_failures=1)
    summary = task.run()

    assert (summary["failed"], summary["cost"]) == (1, 0)
    assert "CUDA out of memory" in batch.rows(task)[0]["error"]


def test_a_refused_key_ends_the_batch_and_says_what_was_not_submitted(segmind, batch):
    batch.put("a.png", "b.png")
    segmind.faults.add("error", on="submit", status=401, times=None)
    task = batch.task(max_transfers=1)
    with pytest.raises(AirflowFailException, match="2 of 2 inputs were not submitted"):
        task.run()

    assert batch.statuses(task) == ["failed", "failed"]


def test_a_rate_limited_batch_goes_on_in_the_next_window(segmind, batch, monkeypatch):
    connection = json.loads(segmind.connection)
    connection["extra"] = {**connection.get("extra", {}), "requests_per_minute": 6000}
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", json.dumps(connection))
    batch.put(*[f"{number}.png" for number in range(3)])
    segmind.faults.add("rate_limited", on="submit", seconds=1)
    summary = batch.task(max_transfers=1).run()

    assert (summary["completed"], len(segmind.jobs)) == (3, 3)


def test_the_history_as_the_watch_asks_for_no_job_by_itself(segmind, batch):
    batch.put(*[f"{number}.png" for number in range(6)])
    summary = batch.task(watch="history").run()

    asked = [segmind.requests.counts[kind] for kind in ("status", "result")]
    assert (summary["completed"], len(segmind.jobs), asked) == (6, 6, [0, 0])


def test_a_result_that_the_history_names_wrongly_is_asked_for_at_the_gateway(segmind, batch):
    batch.put("a.png")
    segmind.faults.add("foreign_url", on="history", url="https://elsewhere.example.com/cup.png", times=None)
    batch.task(watch="history").run()

    assert batch.stored() == ["a.png"]


def test_any_model_runs_once_for_each_payload(segmind, batch):
    payloads = [{"prompt": "a cup", "seed": seed} for seed in range(3)]
    task = batch.task(operator=SegmindRunModelBatchOperator, model="seedream-4.5", payloads=payloads)
    summary = task.run()

    assert (summary["completed"], len(segmind.jobs), len(batch.stored())) == (3, 3, 3)


def test_a_payload_keeps_its_name_when_the_list_changes(segmind, batch):
    payloads = [{"prompt": "a cup", "seed": seed} for seed in range(3)]
    for some in (payloads[:2], payloads[::-1]):
        batch.task(operator=SegmindRunModelBatchOperator, model="seedream-4.5", payloads=some).run()

    assert (len(segmind.jobs), len(batch.stored())) == (3, 3)


def test_what_airflow_keeps_of_a_batch_has_neither_keys_nor_addresses_of_results(segmind, batch):
    batch.put("a.png", "b.png")
    task = batch.task()
    task.run()

    kept = json.dumps([task.triggers, task.events, task.ti.xcoms])
    assert segmind.key not in kept
    assert "generations" not in kept


def test_the_progress_is_an_xcom_while_the_batch_runs(batch):
    batch.put("a.png", "b.png")
    task = batch.task()
    task.submit()

    progress = task.ti.xcoms["progress"]
    assert (progress["total"], progress["done"], progress["in_flight"]) == (2, 0, 2)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_failures": 1.5}, r"max_failures 1\.5"),
        ({"max_cost": 0}, "max_cost 0"),
        ({"max_wave": 0}, "max_wave 0"),
        ({"max_wave": 5000}, "max_wave 5000"),
        ({"max_transfers": True}, "max_transfers True"),
        ({"watch": "webhook"}, "watch 'webhook'"),
        ({"name_template": "{name}.png"}, r"unknown field \{name\}"),
        ({"destination": "s3://bucket/erased.png"}, "with a slash at its end"),
        ({"images": 7}, "images is of type int"),
        ({"images": "s3://bucket/cup.jpg"}, "a single image"),
    ],
)
def test_an_unusable_parameter_is_refused_as_the_dag_is_parsed(options, error):
    with pytest.raises(ValueError, match=error):
        BriaEraseForegroundBatchOperator(
            **{"task_id": "erase", "images": "s3://bucket/in/", "destination": "s3://bucket/out/", **options}
        )


def test_a_destination_that_is_the_source_is_refused(segmind, batch):
    batch.put("a.png")
    with pytest.raises(AirflowFailException, match="among the images that are listed"):
        batch.task(destination=f"{batch.source}/").run()

    assert len(segmind.jobs) == 0


def test_a_destination_inside_the_source_is_not_listed(segmind, batch):
    batch.put("a.png")
    batch.results = batch.source / "erased"
    for _ in range(2):
        batch.task().run()

    assert (len(segmind.jobs), batch.stored()) == (1, ["a.png"])
