"""``millstream lanes``: lanes and journals looked at from outside."""
