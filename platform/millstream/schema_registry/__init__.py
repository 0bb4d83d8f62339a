"""Schemas of events and of foreign values: from files, and from a schema registry."""
