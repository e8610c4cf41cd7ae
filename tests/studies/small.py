"""Studies in small: their runs with a network that compiles fast."""

from tests.train.networks import NAME


def use_small_networks(monkeypatch, study):
    """Every run that the module `study` plans from now on trains it; all else is as planned."""
    planned = study._config

    def config(*args):
        made = planned(*args)
        made.model = {"name": NAME, "dtype": "float32", "features": 16, "hidden": 0}
        return made

    monkeypatch.setattr(study, "_config", config)
