"""The kit that users test with: a virtual clock, logs in memory, injected crashes."""
