"""A chosen third of the behaviours on a real broker, in signed mode. One file, so that one process has the broker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.kafka.fleet import stop
from tests.sdk import test_ends as ends
from tests.sdk import test_events as events
from tests.sdk import test_failing as failing
from tests.sdk import test_flow as flow
from tests.sdk import test_invoke as invoke
from tests.sdk import test_large_state as large_state
from tests.sdk import test_parallel as parallel
from tests.sdk import test_sleeps as sleeps
from tests.sdk import test_steps as steps
from tests.sdk import test_waits as waits
from tests.sdk.examples import test_shops as examples
from tests.sdk.examples.shops import opened
from tests.sdk.rig.held import KINDS
from tests.sdk.rig.on_kafka import FLAGS, KafkaServer
from tests.sdk.rig.stage import ON_KAFKA, Host, Stage, over, unique
from tests.sdk.test_crashes_of_kinds import events_through_outside, survive_a_kill

CHOSEN: dict[str, Callable[[Host], None]] = {
    "three steps": steps.test_three_steps_run_once_each_in_four_calls,
    "values": partial(steps.test_any_json_comes_back_as_it_was, function="returns"),
    "sleep": sleeps.test_a_run_sleeps_for_a_time_and_until_an_instant,
    "wait": waits.test_the_event_that_fits_ends_the_wait,
    "invoke": invoke.test_the_result_of_a_child_is_the_steps,
    "failing child": invoke.test_the_error_of_a_child_can_be_caught,
    "parallel wait": partial(parallel.test_chains_run_beside_each_other, mode="wait"),
    "parallel race": partial(parallel.test_chains_run_beside_each_other, mode="race"),
    "retries": failing.test_a_step_that_fails_is_retried_alone,
    "failure": failing.test_a_step_that_failed_for_good_fails_its_run,
    "failure handler": failing.test_the_failure_handler_hears_of_the_run_and_its_event,
    "cancel by event": ends.test_an_event_cancels_the_run_that_it_fits,
    "cancel by the API": ends.test_a_run_is_cancelled_while_its_app_is_at_work,
    "finished": ends.test_a_function_hears_that_another_has_finished,
    "send event": events.test_a_step_sends_events_once,
    "batch": events.test_a_batch_starts_when_it_is_full,
    "concurrency": flow.test_concurrency_lets_one_run_at_a_time,
    "singleton": flow.test_singleton_skips_a_second_run,
    "large state": large_state.test_a_run_with_large_results_goes_on,
}


@over(f"{ON_KAFKA}fastapi", f"{ON_KAFKA}v4")
@pytest.mark.parametrize("behaviour", CHOSEN)
def test_it_holds_on_a_broker(host: Host, behaviour: str) -> None:
    CHOSEN[behaviour](host)


def test_a_shop_of_the_examples_runs_on_a_broker_as_it_is(stage_on_kafka: Stage, tmp_path: Path) -> None:
    with opened("express_v3", stage_on_kafka.server, tmp_path, stage_on_kafka.variables) as shop:
        examples.test_a_visitor_is_answered_before_the_mails_are_out_and_each_is_sent_once(shop)
        examples.test_an_order_that_is_paid_is_shipped(shop)
        examples.test_a_new_account_starts_three_functions(shop)


@pytest.mark.parametrize("killed", ["app", "server"])
def test_a_step_of_each_kind_survives_a_kill(stage_on_kafka: Stage, killed: str) -> None:
    (host,) = events_through_outside(stage_on_kafka, "v4")
    survive_a_kill(stage_on_kafka, {host: tuple(KINDS)}, killed)


def test_a_server_that_takes_no_events_goes_on_with_the_runs_of_one_that_died(stage_on_kafka: Stage) -> None:
    server, host, gate = stage_on_kafka.server, stage_on_kafka.host("v4"), unique()
    assert isinstance(server, KafkaServer)
    bare = server.fleet.bare_server("bare", *FLAGS)
    runs = [host.begin("hold", id=gate, gate=gate) for _ in range(4)]
    for run in runs:
        host.until_executed(run, "held begins")
    server.kill()
    host.open(gate)
    for run in runs:
        host.until_executed(run, "last")  # There is nobody else.
    server.start(port=server.port)
    assert [host.ended(run)["output"] for run in runs] == [{"held": "open"}] * 4
    stop(bare)
    assert bare.ended() == 0
