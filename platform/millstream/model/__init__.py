"""The nouns: frozen values that every other package speaks of. No I/O, no clock, no policy."""
