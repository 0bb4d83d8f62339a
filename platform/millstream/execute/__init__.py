"""Carrying out the effect "execute this": in this process, at an endpoint, or at a connected worker."""
