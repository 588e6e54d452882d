"""Whatever fails, dies, waits, is cleared, deleted or started anew: tasks that share a ledger pay once for an image."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_segmind.jobs.checkpoint import DELIVERED_KEPT_FOR
from tests.model.examples import EXAMPLES, LONGEST, MAX_REQUESTS, ROW_LATE, fates, faults, settings_for, submit_faults
from tests.model.faults import FAULTS
from tests.model.ledger_tasks import LedgerTask, SharedDocuments, WatchedClock
from tests.model.service_model import Fate, Job, ServiceModel, image_in, number_in
from tests.model.tasks import KEY, body_of, image_of

TASKS = 3
HEALING_ROUNDS = 40
SAME_MOMENT = 10.0
"""A job that was submitted less than these seconds before cannot be told from a submit of unknown outcome."""

tasks = st.integers(0, TASKS - 1)


class OneLedger(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("airflow_provider_segmind").setLevel(logging.CRITICAL + 1)
        self.clock = WatchedClock()
        self.clock.before = self.let_submits_arrive
        self.began = self.clock()
        self.model = ServiceModel(self.clock, image_of)
        self.model.accepted = self.accept
        self.shared = SharedDocuments()
        self.shared.written = self.note_wishes
        self.tasks: list[LedgerTask] = []
        self.runs = 0
        self.delivered: set[int] = set()
        self.known: set[tuple[str, int]] = set()
        self.stored_at: dict[tuple[str, int], float] = {}
        self.stored: dict[tuple[str, int], int] = {}
        self.cleared_at: dict[str, float] = {}
        self.wanted_anew: Counter[int] = Counter()
        self.lost: set[int] = set()

    @initialize(
        images=st.lists(st.sampled_from((2, 2, 2, 3)), min_size=TASKS, max_size=TASKS),
        skew=st.sampled_from((0.0, -4.0, 3.0, -3600.0, 700.0)),
        draw=st.sampled_from((min, max, lambda a, b: (a + b) / 2)),
    )
    def begin(self, images: list[int], skew: float, draw: Any) -> None:
        self.draw = draw
        self.tasks = [self.new_run(image) for image in images]
        self.model.skew = skew

    def new_run(self, image: int) -> LedgerTask:
        self.runs += 1
        task = LedgerTask(f"run-{self.runs}", image, self.clock, self.model, self.draw, self.shared)
        task.waits, task.stores = self.note_wait, self.note_delivery
        return task

    def let_submits_arrive(self, moment: float) -> None:
        for task in self.tasks:
            while task.submit_is_late_at(moment):
                task.step()

    # ------------------------------------------------------------------ what counts as a wish for a new image

    def note_wishes(self, task: LedgerTask, entry: dict[str, Any]) -> None:
        """
        Count the tasks that may buy an image although it was delivered before.

        These are the ones that ask for the first time, after a clear too, and a retry of a success of a day ago.
        """
        if entry["state"] == "submitting" and entry["owner"] == task.name:
            wish = (task.name, task.life)
            is_late = self.clock() - self.stored_at.get(wish, self.clock()) >= DELIVERED_KEPT_FOR.total_seconds()
            if (is_late or wish not in self.known) and self.is_delivered(task.image):
                self.wanted_anew[task.image] += 1
            self.known.add(wish)
        for name, delivery in entry["delivered_to"].items():
            self.stored_at[name, delivery["tries"]] = delivery["at"]

    def note_wait(self, task: LedgerTask) -> None:
        self.known.add((task.name, task.life))

    def note_delivery(self, task: LedgerTask, content: bytes) -> None:
        number = number_in(content)
        self.delivered.add(number)
        life = self.stored.setdefault((task.name, number), task.life)
        is_mistakable = self.model.jobs[number].at > self.cleared_at.get(task.name, 0.0) - SAME_MOMENT
        assert life == task.life or is_mistakable, "a clear after a success brought the same image"

    def is_delivered(self, image: int) -> bool:
        return any(self.model.jobs[number].image == image for number in self.delivered)

    # ------------------------------------------------------------------ what must hold as a POST is accepted

    def accept(self, job: Job) -> None:
        earlier = [other for other in self.model.jobs if other.image == job.image]
        for other in earlier:
            if not other.worth_money(self.clock()):
                self.lost.add(other.number)  # for a task that still waits for it, although another one has stored it
        paid = [other for other in earlier if other.number not in self.lost]
        for other in paid:
            assert other.number in self.delivered, f"{other.id} is paid for, not delivered, and bought again"
        wanted = 1 + self.wanted_anew[job.image]
        assert len(paid) < wanted, f"{len(paid) + 1} jobs for an image that was wanted {wanted} times"

    # ------------------------------------------------------------------ what must hold always

    @invariant()
    def the_ledger_has_no_secrets(self) -> None:
        for document in self.shared.contents.values():
            assert KEY.encode() not in document.data
            assert b"X-Amz" not in document.data
            assert body_of(3)["image"][:100].encode() not in document.data

    @invariant()
    def there_is_one_small_entry_for_each_image(self) -> None:
        assert len(self.shared.contents) <= 2
        assert all(len(document.data) < 8000 for document in self.shared.contents.values())

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

    @rule(index=tasks, steps=st.integers(1, 6), mode=st.sampled_from(("reconcile",) * 8 + ("fail",)))
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

    @rule()
    def start_all_at_once(self) -> None:
        for task in self.tasks:
            if task.stage == "idle":
                task.start()
        for _ in range(2):
            for task in self.tasks:
                if task.stage == "submit":
                    task.step()

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

    @rule(index=tasks, steps=st.integers(0, 4), in_flight=st.booleans())
    def submit_and_crash(self, index: int, steps: int, in_flight: bool) -> None:
        self.go_on(index, 1 + steps, "reconcile")
        self.tasks[index].crash(in_flight=in_flight)

    @rule(index=tasks, writes=st.integers(0, 3), after=st.booleans())
    def crash_at_the_ledger(self, index: int, writes: int, after: bool) -> None:
        store = self.tasks[index].store
        store.crash_at, store.crash_after = writes, after

    @rule(index=tasks, writes=st.integers(0, 3))
    def lose_a_response_of_the_ledger(self, index: int, writes: int) -> None:
        self.tasks[index].store.lose_at = writes

    @rule(index=tasks, readable=st.booleans())
    def the_ledger_cannot_be_read(self, index: int, readable: bool) -> None:
        self.tasks[index].store.readable = readable

    @rule(index=tasks, in_flight=st.booleans(), image=st.sampled_from((None, None, 2, 3)))
    def user_deletes_the_run_and_starts_another(self, index: int, in_flight: bool, image: int | None) -> None:
        self.tasks[index].crash(in_flight=in_flight)
        self.tasks[index].end_try()
        self.tasks[index] = self.new_run(image or self.tasks[index].image)

    @rule(index=tasks)
    def user_clears(self, index: int) -> None:
        """Clear: after a success it is for a new image, in any other state for another try."""
        task = self.tasks[index]
        if task.stage == "done":
            task.ask_anew(task.image)
            self.cleared_at[task.name] = self.clock()
        else:
            task.end_try()

    @rule(fault=faults, times=st.sampled_from((1, 1, 2, 5)))
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

    @rule(index=tasks, up=st.booleans())
    def switch_storage(self, index: int, up: bool) -> None:
        self.tasks[index].storage_up = up

    @rule(seconds=st.sampled_from((1.0, 5.0, 11.0, 30.0, 60.0, 130.0, 600.0, 3600.0, 86_400.0, 7.1 * 86_400)))
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
            task.storage_up, task.store.readable = True, True
            task.store.crash_at = task.store.lose_at = None
        for _ in range(HEALING_ROUNDS):
            for task in self.tasks:
                if task.stage == "idle":
                    task.start()
                task.try_to_the_end()
                self.stored_files_are_the_right_images()
            if all(task.stage == "done" for task in self.tasks):
                return
            self.clock.advance(300.0)
        errors = {task.name: task.last_error for task in self.tasks if task.stage != "done"}
        raise AssertionError(f"never stored: {errors}")


TestOneLedger = OneLedger.TestCase
TestOneLedger.settings = settings_for(EXAMPLES // 2)
