"""From the fields of a config to the parts of a run: names, arguments, defaults and refusals."""
