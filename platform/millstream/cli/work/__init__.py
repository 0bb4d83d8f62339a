"""Commands about the work: events, runs, signals, functions, scans, dead letters. They ask the HTTP API."""
