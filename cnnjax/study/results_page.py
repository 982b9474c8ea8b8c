"""Tables of finished studies in a Markdown page, between marks; the words around them are a person's."""

import re

from etils import epath

from cnnjax.config import RequestError
from cnnjax.study import screening
from cnnjax.study.files import write_text
from cnnjax.study.results import collect, measured_rows, summarise, troubles, warnings
from cnnjax.study.summary import headings, table_rows
from cnnjax.study.workdir import Study, read_study


def update_page(page: epath.Path, workdirs: list[str]) -> None:
    """Writes the table of each study into a page, in the place of the one that it has.

    The study of a workdir `.../NAME` belongs between the lines `<!-- NAME -->` and `<!-- end -->`; where they are not
    there, a section is added for it. So an experiment on other data has a section of its own.

    Args:
      page: a Markdown file; made if it is not there.
      workdirs: of the studies.

    Raises:
      RequestError: for a workdir without a study, or a study without a finished run.
    """
    text = page.read_text() if page.exists() else ""
    for workdir in workdirs:
        study = read_study(epath.Path(workdir).expanduser())
        name, block = study.folder.name, study_block(study)
        marked = re.compile(rf"<!-- {re.escape(name)} -->\n.*?<!-- end -->\n", re.DOTALL)
        if marked.search(text):
            text = marked.sub(lambda _, block=block: block, text)
        else:
            text += f"\n## {name}\n\n{study.experiment.question}\n\n{block}"
    write_text(page, text)


def study_block(study: Study) -> str:
    """A study's table in Markdown, between its marks: date, machine, arms, and what a screening found.

    Raises:
      RequestError: if no run has finished.
    """
    results = collect(study)
    if results.empty:
        raise RequestError(f"--workdirs: no run in {study.folder} has finished")
    machine = study.machine
    hardware = f"{machine['devices']} ({machine['processor']})"
    made = f"{machine['date']}, {hardware}, JAX {machine['versions']['jax']}, Python {machine['python']}"
    lines = [
        f"<!-- {study.folder.name} -->",
        f"{made}, {study.seeds} seeds, mean and 95% interval:",
        "",
        *_table(headings(study), table_rows(summarise(study, results))),
    ]
    if study.experiment.columns:
        lines += ["", *_table(["arm", *study.experiment.columns], measured_rows(study, results))]
    if study.experiment.screening:
        table = screening.screening_table(results, study.experiment.screening)
        found = screening.findings(table, screening.linear_on_pixels(results))
        lines += ["", *_table(["quantity", "value", "how"], [list(finding) for finding in found])]
    lines += [f"\n{line}" for line in [*troubles(study), *warnings(study)]]
    return "\n".join([*lines, "<!-- end -->", ""])


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    escaped = [[cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in [heads, *rows]]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return [lines[0], f"|{'---|' * len(heads)}", *lines[1:]]
