"""Any value in any option of flow control: it is refused in words, or it is registered and comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream import App, Batch, Concurrency, Context, Debounce, FunctionError, RateLimit, Singleton, Throttle
from millstream.model.function import decode_app_spec, encode_app_spec
from tests.faults.fuzz import VALUES, Silent

ANY = st.sampled_from([1, 5, "1m", "", "event.data.x", "skip", "env", "run"]) | VALUES
RULES: dict[str, tuple[Callable[..., Any], int]] = {
    "concurrency": (Concurrency, 4),
    "throttle": (Throttle, 4),
    "rate_limit": (RateLimit, 3),
    "debounce": (Debounce, 3),
    "batch": (Batch, 4),
    "singleton": (Singleton, 2),
}
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    name: VALUES | st.tuples(*[ANY] * fields).map(lambda given, rule=rule: rule(*given))  # type: ignore[misc]
    for name, (rule, fields) in RULES.items()
} | dict.fromkeys(("priority", "idempotency", "ordered_by"), ANY)
OPTIONS["concurrency"] |= st.lists(OPTIONS["concurrency"], max_size=3)


async def mail(ctx: Context) -> None: ...


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.fixed_dictionaries({}, optional=OPTIONS))
def test_any_value_of_any_option_is_refused_in_words_or_registered(options: dict[str, Any]) -> None:
    app, said = App("fuzz"), ""
    Silent.hostile = True
    try:
        app.function(on="x", **options)(mail)
    except FunctionError as error:
        said = str(error)
    finally:
        Silent.hostile = False
    if said:
        assert said.startswith("function 'fuzz-mail' refused: ")
        said.encode()  # It can be written to any log.
    else:
        assert decode_app_spec(encode_app_spec(app.spec())) == app.spec()
