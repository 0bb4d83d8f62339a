"""Waiting for events: who waits where, and how an event finds those who wait for it.

    the run's lane      WaitStarted ──AwaitEvent──> the home of the place      places.py, steps/wait_for_event.py
    the home            looks through the events it keeps; adds a waiter       homes.py, kept.py
                        asks all lanes once for events of the name, by a path  coverage.py
    the reading lanes   forward such events, by the value there, to its home   interests.py
                        and look for those they read before                    interests.py
    the home            an event meets its waiters ──EventCame──> the run's lane
                        time is over: has every lane looked? ──NothingCame──>

**No lost wait.** An event received after the run's own event finds the wait whatever came first: one that was read
before the wait was there is kept at its home, or is found by the scans that a first wait asks for. A wait ends without
an event only when every reading lane has looked since before it began.
"""
