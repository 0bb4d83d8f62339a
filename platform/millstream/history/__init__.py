"""The read side: a fold of the journals and the events topic into an index that answers questions."""
