"""What only the SDKs' protocol asks: run state, jobs, functions of apps, and what is taken and ignored."""
