"""Text in and out: what can be stored, what may be shown, what must be hidden, lengths of time as they are written."""
