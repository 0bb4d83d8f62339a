"""Owning a lane: the fence, the restore, the take-over, and what former owners still run."""
