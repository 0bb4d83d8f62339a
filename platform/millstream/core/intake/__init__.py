"""What comes into a lane: apps, events, records of topics, scans, crons; ids that were seen, and dead letters."""
