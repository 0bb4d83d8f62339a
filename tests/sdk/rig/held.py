"""Runs that stand, each in a step of another kind, and what must be true of them once somebody was killed meanwhile.

play = Play(host, stage.outside, KINDS)
play.stand()        each run is at a lasting point: its step is recorded as waiting, or whoever does it has got it
...                 kill, and start again
play.free()         what they wait for comes
play.check(...)     each ends right, and no step that was recorded was done again
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.cases.server import ENDED
from tests.promises import BrokenPromise
from tests.sdk.rig.outside import Outside
from tests.sdk.rig.stage import Host, unique

ENDS_IN_S: Final = 4.0
"""How long a sleep and a retry wait: longer than it takes to see that they do, or they are begun again."""


@dataclass(frozen=True)
class Kind:
    """A kind of step: ``stands`` says that its run is there; ``once`` and ``twice``: what may be done so often."""

    stands: Callable[[Play, str], bool]
    result: Callable[[Play, str], Any]
    once: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()


def state(name: str) -> Callable[[Play, str], bool]:
    """The engine shows the run in this state."""
    return lambda play, run: play.host.run(run).get("state") == name


def app_has_it(play: Play, run: str) -> bool:
    """The app is in the step."""
    return "held begins" in play.host.ledger(run)


def outside_has_it(play: Play, run: str) -> bool:
    """The address outside was asked, and its answer waits."""
    return play.asked(run) > 0


def beside(*recorded: str) -> Callable[[Play, str], bool]:
    """The app is in the step, and these others are recorded."""

    def stands(play: Play, run: str) -> bool:
        done = {step["name"] for step in play.host.run(run).get("steps", ()) if step["status"] == "completed"}
        return app_has_it(play, run) and done.issuperset(recorded)

    return stands


def child_has_it(play: Play, run: str) -> bool:
    """The app is in the step of the child that the run waits for."""
    child = play.child(run)
    return bool(child) and app_has_it(play, child)


def handler_has_it(play: Play, run: str) -> bool:
    """The app is in the step of the run's failure handler."""
    return any(app_has_it(play, handler) for handler in play.handlers(run))


def always(value: Any) -> Callable[[Play, str], Any]:
    """This result, whatever the run."""
    return lambda play, run: value


GATED: Final = ("held begins", "held")
KINDS: Final[dict[str, Kind]] = {
    "wait": Kind(state("Waiting"), always("after all")),
    "signal": Kind(state("Waiting"), always("after all")),
    "invoke": Kind(child_has_it, always("open")),
    "batch": Kind(app_has_it, always([1, 2]), twice=GATED),
    "run": Kind(app_has_it, always("open"), twice=GATED),
    "joint": Kind(beside("a.1"), always(["quick", "open"]), once=("a.1", "a.2"), twice=GATED),
    "race": Kind(beside("a.1", "a.2"), always(["quick", "open"]), once=("a.1", "a.2"), twice=GATED),
    "large": Kind(app_has_it, always("open"), once=("0", "1", "2"), twice=GATED),
    "failure": Kind(handler_has_it, always(None)),
    "send": Kind(outside_has_it, lambda play, run: None),
    "infer": Kind(outside_has_it, lambda play, run: f"you said {run}"),
    "fetch": Kind(outside_has_it, lambda play, run: f"I am a teapot, and got {run}"),
    "sleep": Kind(state("Sleeping"), always("awake")),
    "retry": Kind(state("Retrying"), always("mended"), once=("attempt 0", "attempt 1")),
}
TIMED: Final = ("sleep", "retry")
IN_TYPESCRIPT_ALONE: Final = ("signal", "fetch")


@dataclass
class Play:
    """See the module. ``runs`` are by kind, ``collecting`` is the event of a batch that is not full."""

    host: Host
    outside: Outside
    kinds: tuple[str, ...]
    id: str = field(default_factory=unique)
    runs: dict[str, str] = field(default_factory=dict)
    collecting: str = ""

    def stand(self) -> None:
        """Begin a run of each kind; return when each stands. The address outside is not open meanwhile."""
        self.collecting = self.host.send("held-collecting", id=self.id, n=1)
        for kind in self.kinds:
            if kind == "batch":
                events = self.host.send_all("held-batch", *({"id": self.id, "gate": self.id, "n": n} for n in (1, 2)))
                self.runs[kind] = self.host.run_of(events[0])
            elif kind not in TIMED:
                self.runs[kind] = self.host.begin(f"held-{kind}", id=self.id, gate=self.id)
        for kind, run in self.runs.items():
            self.host.until(f"the run of {kind} stands", lambda kind=kind, run=run: KINDS[kind].stands(self, run))
        for kind in self.kinds:
            if kind in TIMED:
                self.runs[kind] = self._timed(kind)

    def _timed(self, kind: str, within_s: float = ENDS_IN_S) -> str:
        """A run that waits for a time and was seen to; on a busy machine it waits longer."""
        run = self.host.begin(f"held-{kind}", until=time.time() + within_s)
        self.host.until(kind, lambda: KINDS[kind].stands(self, run) or self.host.run(run).get("status") in ENDED)
        return run if self.host.run(run)["status"] not in ENDED else self._timed(kind, within_s * 2)

    def free(self) -> None:
        """Let all go on that waits for a gate, an event or a signal; the rest of the batch comes."""
        self.host.open(self.id)
        self.host.send("held-answer", id=self.id, text="after all")
        if "signal" in self.kinds:
            status, said = self.host.server.ask("POST", "/v1/signals", {"signal": self.id, "data": "after all"})
            assert status == 200, said
        self.host.send("held-collecting", id=self.id, n=2)

    def check(self, *, server_killed: bool) -> None:
        """Each run has ended right; what is done at another service is asked for again only if the server died."""
        for kind, run in self.runs.items():
            ended = self.host.ended(run)
            if kind == "failure":
                self._check_handler(run, ended)
                continue
            assert ended["status"] == "Completed", (kind, ended)
            if kind == "send":
                self._check_sent(run, ended["output"])
            else:
                assert ended["output"] == KINDS[kind].result(self, run), (kind, ended)
            self._check_not_redone(kind, run, self.host.ledger(run))
            if outside_has_it is KINDS[kind].stands and kind != "send" and self.asked(run) > 1 + server_killed:
                raise BrokenPromise(f"{kind}: asked {self.asked(run)} times")
        if "invoke" in self.runs:
            self._check_child(self.runs["invoke"])
        collected = self.host.run_of(self.collecting)
        assert self.host.ended(collected)["output"] == [1, 2]
        self._check_not_redone("run", collected, self.host.ledger(collected))

    def _check_not_redone(self, kind: str, run: str, did: list[str]) -> None:
        # A step that a kill has interrupted runs again, and one that has ended may, unless its end was recorded.
        counted = Counter(did)
        most = dict.fromkeys(("first", "last", *KINDS[kind].once), 1) | dict.fromkeys(KINDS[kind].twice, 2)
        if any(count > most.get(what, 0) for what, count in counted.items()) or counted["first"] != 1:
            raise BrokenPromise(f"{kind}: {run} of {self.host.id} has redone a step: {did}")

    def _check_sent(self, run: str, ids: list[str]) -> None:
        """What the step has at last recorded was sent, and has started a run."""
        (sent,) = ids
        assert self.host.ended(self.host.run_of(sent))["output"] == 1

    def _check_child(self, run: str) -> None:
        child = self.child(run)
        assert self.host.run(child)["status"] == "Completed"
        if self.host.ledger(child).count("held begins") > 2:
            raise BrokenPromise(f"invoke: the child was called too often: {self.host.ledger(child)}")

    def _check_handler(self, run: str, ended: dict[str, Any]) -> None:
        assert ended["status"] == "Failed", ended
        if self.host.ledger(run) != ["first"]:
            raise BrokenPromise(f"failure: {self.host.ledger(run)}")
        (handler,) = self.handlers(run)
        assert self.host.ended(handler)["status"] == "Completed"
        did = Counter(self.host.ledger(handler))
        if (did["handler begins"], did["handler ends"]) != (1, 1) or did["held begins"] > 2:
            raise BrokenPromise(f"failure: the handler has redone a step: {did}")

    # --- looking ----------------------------------------------------------------------------------

    def asked(self, run: str) -> int:
        """How often the address outside was asked for a run."""
        return sum(run.encode() in got.body for got in self.outside.got)

    def child(self, run: str) -> str:
        """The run that this one has invoked; empty where there is none yet."""
        waits = [step["waits_for"] for step in self.host.run(run).get("steps", ()) if step["name"] == "child"]
        return str((waits[0] or {}).get("run_id", "")) if waits else ""

    def handlers(self, run: str) -> set[str]:
        """The runs of the failure handler that have begun for this one."""
        return {row["run"] for row in self.host.rows() if row["what"] == "handler begins" and row["of"] == run}
