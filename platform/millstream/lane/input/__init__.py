"""What comes into a lane: sources, the inbox, the catalogue, scans, and how far each was read."""
