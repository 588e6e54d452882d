"""Whatever fails, dies, waits or is cleared, in any order: each image is stored, and paid for once."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_segmind.jobs.checkpoint import Checkpoint
from tests.model.examples import EXAMPLES, LONGEST, MAX_REQUESTS, ROW_LATE, fates, faults, settings_for, submit_faults
from tests.model.faults import FAULTS
from tests.model.service_model import Clock, Fate, Job, ServiceModel, image_in
from tests.model.tasks import KEY, Task, body_of, image_of

TASKS = 4
HEALING_TRIES = 40

tasks = st.integers(0, TASKS - 1)


class NeverPayTwice(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("airflow_provider_segmind").setLevel(logging.CRITICAL + 1)
        self.clock = Clock()
        self.began = self.clock()
        self.model = ServiceModel(self.clock, image_of)
        self.model.accepted = self.accept
        self.tasks: list[Task] = []

    @initialize(
        images=st.lists(st.sampled_from((2, 2, 3, 4)), min_size=TASKS, max_size=TASKS),
        skew=st.sampled_from((0.0, -4.0, 3.0, -3600.0, 700.0)),
        draw=st.sampled_from((min, max, lambda a, b: (a + b) / 2)),
        page_size=st.sampled_from((100, 1)),
    )
    def begin(self, images: list[int], skew: float, draw: Any, page_size: int) -> None:
        self.tasks = [Task(image, self.clock, self.model, draw) for image in images]
        self.model.skew, self.model.page_size = skew, page_size

    # ------------------------------------------------------------------ what must hold as a POST is accepted

    def accept(self, job: Job) -> None:
        task: Task = job.sender
        assert task.store.stored is not None, "a POST without a checkpoint"
        checkpoint = Checkpoint.parse(json.loads(task.store.stored))
        assert checkpoint.request_id is None, "a POST while the checkpoint has a request id"
        assert checkpoint.input_digest == task.digest()
        assert job.image == task.image
        for earlier in self.jobs_of(task):
            assert self.is_settled(task, earlier), f"{earlier.id} is paid for once more"

    def jobs_of(self, task: Task) -> list[Job]:
        return [job for job in self.model.jobs if job.sender is task and job.life == task.life]

    def is_settled(self, task: Task, job: Job) -> bool:
        """Whether the task may pay again, as far as this job is concerned."""
        if job.id not in task.store.ids:
            # A window that stays open: another job for the same image was adopted, and came to nothing.
            own = self.jobs_of(task)
            adopted = [other for other in self.model.jobs if other not in own and other.id in task.store.ids]
            job.forgiven |= any(not other.worth_money(self.clock()) for other in adopted)
        return job.forgiven or not job.worth_money(self.clock())

    # ------------------------------------------------------------------ what must hold always

    @invariant()
    def a_checkpoint_covers_each_paid_job(self) -> None:
        for task in self.tasks:
            if task.stage == "done" or task.store.stored is not None or task.file is not None:
                continue
            for job in self.jobs_of(task):
                assert self.is_settled(task, job), f"no checkpoint covers {job.id}"

    @invariant()
    def a_checkpoint_has_no_secrets(self) -> None:
        for task in self.tasks:
            stored = f"{task.store.stored} {task.last_error}"
            assert KEY not in stored
            assert "X-Amz" not in stored
            assert body_of(3)["image"][:100] not in stored

    @invariant()
    def requests_are_bounded(self) -> None:
        assert self.model.requests < MAX_REQUESTS

    @invariant()
    def stored_files_are_the_right_images(self) -> None:
        for task in self.tasks:
            if task.stage == "done":
                assert task.file is not None
                assert image_in(task.file) == task.image

    # ------------------------------------------------------------------ what happens

    @rule(index=tasks, steps=st.integers(1, 6), mode=st.sampled_from(("reconcile",) * 8 + ("fail", "resubmit")))
    def go_on(self, index: int, steps: int, mode: str) -> None:
        task = self.tasks[index]
        if task.stage == "idle":
            task.start(mode)
        for _ in range(steps):
            if task.stage not in ("idle", "done"):
                task.step()

    @rule(index=tasks)
    def try_to_the_end(self, index: int) -> None:
        task = self.tasks[index]
        if task.stage == "idle":
            task.start()
        task.try_to_the_end()

    @rule(index=tasks, names=submit_faults, row_late=st.sampled_from(ROW_LATE))
    def submit_badly(self, index: int, names: list[str], row_late: float) -> None:
        task = self.tasks[index]
        if task.stage == "idle":
            self.mend(None)
            self.model.fate = replace(self.model.fate, row_late=row_late)
            self.model.faults["submit"].extend(FAULTS["submit"][name] for name in names)
            task.start()
            while task.stage == "submit":
                task.step()

    @rule(index=tasks, in_flight=st.booleans())
    def crash(self, index: int, in_flight: bool) -> None:
        self.tasks[index].crash(in_flight=in_flight)

    @rule(index=tasks, steps=st.integers(0, 3), in_flight=st.booleans())
    def submit_and_crash(self, index: int, steps: int, in_flight: bool) -> None:
        self.go_on(index, 1 + steps, "reconcile")
        self.tasks[index].crash(in_flight=in_flight)

    @rule(index=tasks, writes=st.integers(0, 2), after=st.booleans())
    def crash_at_the_checkpoint(self, index: int, writes: int, after: bool) -> None:
        store = self.tasks[index].store
        store.crash_at, store.crash_after = writes, after

    @rule(index=tasks)
    def user_ends_the_try(self, index: int) -> None:
        if self.tasks[index].stage != "done":
            self.tasks[index].end_try()

    @rule(index=tasks, image=st.sampled_from((None, None, None, 2, 3)))
    def user_wants_a_new_image(self, index: int, image: int | None) -> None:
        """Clear after a success; with ``image`` the DAG gives another one, at any time."""
        task = self.tasks[index]
        if task.stage == "done" or image not in (None, task.image):
            task.ask_anew(image or task.image)

    @rule(fault=faults, times=st.sampled_from((1, 1, 2, 5, 50)))
    def break_next(self, fault: tuple[str, str], times: int) -> None:
        kind, name = fault
        self.model.faults[kind].extend([FAULTS[kind][name]] * times)

    @rule(limit=st.sampled_from((None, None, 5, 50)))
    def mend(self, limit: int | None) -> None:
        self.model.faults.clear()
        self.model.limit = limit

    @rule(fate=fates)
    def change_fate(self, fate: Fate) -> None:
        self.model.fate = fate

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), what=st.sampled_from(("expired", "told_gone")))
    def forget_early(self, data: st.DataObject, what: str) -> None:
        setattr(data.draw(st.sampled_from(self.model.jobs)), what, True)

    @rule(index=tasks, readable=st.booleans())
    def checkpoints_cannot_be_read(self, index: int, readable: bool) -> None:
        self.tasks[index].store.readable = readable

    @rule(index=tasks, account=st.sampled_from(("a", "a", "b")))
    def connection_moves_to_another_account(self, index: int, account: str) -> None:
        """A process that runs keeps the connection that it has read."""
        if self.tasks[index].run is None:
            self.tasks[index].account = account

    @rule(index=tasks, up=st.booleans())
    def switch_storage(self, index: int, up: bool) -> None:
        self.tasks[index].storage_up = up

    @rule(seconds=st.sampled_from((1.0, 5.0, 11.0, 30.0, 60.0, 600.0, 3600.0, 86_400.0, 7.1 * 86_400)))
    def time_passes(self, seconds: float) -> None:
        if self.clock() + seconds - self.began < LONGEST:
            self.clock.advance(seconds)

    # ------------------------------------------------------------------ and in the end all is well

    def teardown(self) -> None:
        try:
            self.heal()
        finally:
            logging.getLogger("airflow_provider_segmind").setLevel(logging.NOTSET)

    def heal(self) -> None:
        self.mend(None)
        self.model.fate = Fate()
        for task in self.tasks:
            task.storage_up, task.store.crash_at, task.store.readable = True, None, True
            if task.store.stored is not None:
                task.account = json.loads(task.store.stored)["account"]
            for _ in range(HEALING_TRIES):
                task.try_to_the_end()
                self.check_all()
                if task.stage == "done":
                    break
                self.clock.advance(300.0)
                task.start()
            assert task.stage == "done", f"never stored: {task.last_error!r}"
            assert '"delivered_in"' in (task.store.stored or ""), "the checkpoint says delivered"

    def check_all(self) -> None:
        self.a_checkpoint_covers_each_paid_job()
        self.a_checkpoint_has_no_secrets()
        self.requests_are_bounded()
        self.stored_files_are_the_right_images()


TestNeverPayTwice = NeverPayTwice.TestCase
TestNeverPayTwice.settings = settings_for(EXAMPLES)
