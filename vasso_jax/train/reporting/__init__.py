"""What users see of a run: the console and dashboards."""
