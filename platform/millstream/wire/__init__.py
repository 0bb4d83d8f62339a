"""Bytes: how facts, rows, messages and events are written as Avro and read back. No I/O, no decisions."""
