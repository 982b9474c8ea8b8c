"""Writes the tables of finished studies into RESULTS.md.

python experiments/results.py --workdirs=runs/random_filters,runs/jarrett
"""

import sys
from pathlib import Path

from absl import app, flags
from etils import epath

from cnnjax.config import RequestError
from cnnjax.study.results_page import update_page

WORKDIRS = flags.DEFINE_list("workdirs", [], "Folders of finished studies.")


def main(_: list[str]) -> None:
    """Updates the page beside this file."""
    try:
        update_page(epath.Path(Path(__file__).parent / "RESULTS.md"), WORKDIRS.value)
    except RequestError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    app.run(main)
