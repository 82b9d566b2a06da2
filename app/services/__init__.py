"""The use cases. Each owns one thing the service does; none knows HTTP."""
