"""What a user sees of a run: the console, and dashboards."""
