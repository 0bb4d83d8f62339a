"""Flow control: who may start, who must queue, who is dropped.

A gate counts by a key, and each value of the key has a **home**: the lane that decides for it (``places.py``). A run
goes to its gates; no lane ever guesses what another has given away, and there are no leases.

    an event ──places──> AdmitStart ──> home of rate_limit, idempotency, singleton           whether it starts
                                    ──> the lane of the run: RunStarted, QUEUED
    QUEUED   ──AskGate──> the home: GateQueued …, GateOpened ──GateOpen──> the run's lane: GatePassed
             behind the last gate: OUT, an executor has it
    what executes no more, or is over ──LeaveGate──> the home: GateLeft, and the next one passes

    places.py      where a run has to pass: keys are evaluated once, when the event is read
    starts.py, verdicts.py, admission.py   the way of a start through the gates that may refuse it
    rate_limit.py, idempotency.py, singleton.py   these gates; counts.py has what the first two share
    passage.py     the run's side: it asks, passes, and gives back
    queues.py      the home's side: the queue, and who is next
    throttle.py, concurrency.py   the two gates with queues: whether there is room now

Add a gate that queues: a file with one ``QueueGate`` and its place in ``QUEUE_GATES`` of ``gates.py``. One that admits:
a file with one ``AdmitGate``, and its place in ``ADMIT_GATES``.
"""
