"""How long do all measures of a finished run take, compilation included, and how much memory?

Prints the seconds of loading, of each measure (those that walk over the magnitudes of a transformation together) and of
all, but for the imports, which `time` adds; and the process's greatest resident memory, which should not grow with the
number of images.

    time python experiments/measures_speed.py --run=runs/random_filters/runs/learned/seed0 [--images=1000]
"""

import resource
import time

import jax
import numpy as np
from absl import app, flags, logging

import cnnjax
from cnnjax.analysis.measures import MEASURES, SWEPT, take
from cnnjax.analysis.occasion import Occasion
from cnnjax.config import MeasureConfig
from cnnjax.data.dataset import load_dataset

RUN = flags.DEFINE_string("run", None, "Folder of a finished run.", required=True)
IMAGES = flags.DEFINE_integer("images", 1000, "How many are looked at.", lower_bound=100)


def occasion() -> Occasion:
    """The run beside itself, on images of all splits, repeated where they are too few."""
    run = cnnjax.load(RUN.value)
    dataset = load_dataset(run.config.data)
    splits = (dataset.test, dataset.validation, dataset.train)
    rows = np.arange(IMAGES.value) % sum(len(split) for split in splits)
    return Occasion(
        subject=run.subject,
        images=np.concatenate([split.images for split in splits])[rows],
        labels=np.concatenate([split.labels for split in splits])[rows],
        training=(dataset.train.images, dataset.train.labels),
        training_part=(dataset.train.images[: IMAGES.value], dataset.train.labels[: IMAGES.value]),
        arm=run.arm,
        arms={},
        others={"itself": run.subject},
        settings=MeasureConfig(images=IMAGES.value),
        key=jax.random.key(0),
        start=lambda: run.subject,
    )


def main(_: list[str]) -> None:
    """Prints a line for each measure."""
    logging.set_verbosity(logging.ERROR)
    beginning = time.perf_counter()
    asked = occasion()
    print(f"{time.perf_counter() - beginning:6.1f} s  run and data")
    for names in (tuple(SWEPT), *((name,) for name in MEASURES if name not in SWEPT)):
        started = time.perf_counter()
        take(names, asked)
        print(f"{time.perf_counter() - started:6.1f} s  {', '.join(names)}", flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{time.perf_counter() - beginning:6.1f} s  in all; {memory:.2f} GiB at most, {len(asked.images)} images")


if __name__ == "__main__":
    app.run(main)
