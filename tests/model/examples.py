"""What the state machines draw from, and how many examples they run."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.model.faults import FAULTS
from tests.model.service_model import Fate

EXAMPLES = int(os.environ.get("SEGMIND_MODEL_EXAMPLES", "1000"))
RANDOM = bool(os.environ.get("SEGMIND_MODEL_RANDOM"))
"""Draw other examples in each run. By default they are always the same, so that a failure comes from the change."""

SHRINK = bool(os.environ.get("SEGMIND_MODEL_SHRINK"))
"""Shorten a failing run: minutes, so only where asked for."""

MAX_REQUESTS = 10_000
LONGEST = 25 * 86_400.0
"""The history reaches back 31 days: what is unknown for longer is left to people."""

ROW_LATE = (0.0, 0.0, 8.0, 45.0)
"""Seconds after which a row lands; nothing is promised beyond ``history.LISTED_WITHIN`` after the POST."""

fates = st.builds(
    Fate,
    seconds=st.sampled_from((0.5, 3.0, 12.0, 12.0, 45.0, 900.0, 5400.0)),
    fails=st.sampled_from((False, False, True)),
    row_late=st.sampled_from(ROW_LATE),
    shape=st.sampled_from(("images", "text", "inline", "signed", "nothing")),
)
faults = st.sampled_from([(kind, name) for kind, table in FAULTS.items() for name in table])
refused = st.sampled_from(("not sent", "503 in the envelope", "503 in the envelope, slowly"))
unknown = st.sampled_from(sorted(FAULTS["submit"])) | st.sampled_from([n for n in FAULTS["submit"] if "after" in n])
submit_faults = st.tuples(st.lists(refused, max_size=2), unknown).map(lambda drawn: [*drawn[0], drawn[1]])


def settings_for(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        derandomize=not RANDOM,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
        report_multiple_bugs=False,
    )
