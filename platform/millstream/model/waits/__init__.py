"""What a step waits for: as it stands in its facts, as people are shown it, and the token of a callback."""
