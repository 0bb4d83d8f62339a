"""Carrying out functions of apps over HTTP: dispatches become calls in the SDKs' protocol, replies operations.

    EndpointExecutor ── Execute ──> call_of(view) ──> Endpoint.post ──> the app
    the lane <── Report, ParkDispatch, LoseDispatch ── read_reply <── status, headers, body

``calls.py`` and ``replies.py`` know the protocol and no network; ``endpoints.py`` knows which app is where and whether
it answers; ``http.py`` has the connections, ``guard.py`` says where they may lead, ``gateway.py`` makes the requests
that a step asks for; ``executor.py`` puts them together for a lane.
"""
