"""Which test keeps which rule of a lane (docs/lanes.md), where no deliberate fault of ``mutants/`` can break it here.

Data: the rule's number, and the test that would notice. ``test_mutants.py`` holds it against the page and the mutants.
"""

from __future__ import annotations

from typing import Final

KEPT_ELSEWHERE: Final = {
    "7": "tests/kafka/test_members.py::test_members_share_the_lanes_and_a_leaver_gives_its_own_back",
    "16": "tests/kafka/test_topics.py::test_a_worker_refuses_an_unsafe_topic_and_names_the_setting",
    "17": "tests/log/test_embedded.py::test_after_a_failed_disk_nothing_is_tried_again",
    "33": "tests/wire/test_journal.py::test_a_format_of_a_newer_version_is_refused",
}
