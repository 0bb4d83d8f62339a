"""The lane: the loop that gives the core commands and the journal facts. Straight lines; every policy is in
``core/``."""
