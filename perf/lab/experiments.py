"""The standing experiments: the same names and loads from one version to the next."""

from __future__ import annotations

from lab.measure import Experiment
from lab.script import USAGE, Failure

LARGE = ("--clients", "4", "--batch", "8190")

STANDING: tuple[Experiment, ...] = (
    Experiment("local-1x1", 1, 1, LARGE),
    Experiment("local-1x3", 1, 3, LARGE),
    # Every client with a connection of its own, as 64 programs would have.
    Experiment("single-1x3", 1, 3, ("--clients", "64", "--connections", "64", "--batch", "1")),
    Experiment(
        "single-deep-1x3", 1, 3, ("--clients", "1024", "--connections", "32", "--batch", "1")
    ),
    *(
        Experiment(f"cross-{percent}", 3, 3, (*LARGE, "--cross", str(percent)))
        for percent in (0, 10, 50, 100)
    ),
)


def standing(name: str) -> Experiment:
    """One of them by its name."""
    for experiment in STANDING:
        if experiment.name == name:
            return experiment
    names = " ".join(experiment.name for experiment in STANDING)
    raise Failure(f"no experiment {name}; there are: {names}", USAGE)
