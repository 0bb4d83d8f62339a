"""How reads are answered: from the history's index, by the history role, as of a position."""
