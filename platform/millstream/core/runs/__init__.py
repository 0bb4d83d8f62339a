"""Runs: how they start, how their body and steps pass from hand to hand, how they end."""
