"""Tables in a page of results: written, renewed, and nothing else touched."""

import shutil
from pathlib import Path

import pytest
from etils import epath

from cnnjax.config import RequestError
from cnnjax.study.results_page import update_page
from cnnjax.study.workdir import Study


def test_a_section_is_added_and_then_its_table_alone_renewed(finished_study: Study, tmp_path: Path) -> None:
    page = epath.Path(tmp_path / "RESULTS.md")
    page.write_text("# Results\n")
    name = finished_study.folder.name
    update_page(page, [str(finished_study.folder)])
    first = page.read_text()
    assert first.startswith(f"# Results\n\n## {name}\n")
    for arm in finished_study.experiment.arms:
        assert f"| {arm} | " in first
    changed = first.replace("mean and 95% interval", "an old table") + "\nWhat the paper says.\n"
    page.write_text(changed)
    update_page(page, [str(finished_study.folder)])
    assert page.read_text() == first + "\nWhat the paper says.\n"


def test_another_workdir_of_an_experiment_has_a_section_of_its_own(finished_study: Study, tmp_path: Path) -> None:
    page, other = epath.Path(tmp_path / "RESULTS.md"), tmp_path / "tiny_on_other_data"
    shutil.copytree(finished_study.folder, other)
    update_page(page, [str(finished_study.folder), f"{other}/"])
    text = page.read_text()
    assert text.count("<!-- end -->") == 2 and text.count("<!-- tiny_on_other_data -->") == 1
    update_page(page, [str(other)])
    assert page.read_text() == text


def test_a_folder_without_a_study_is_named_and_the_page_left_alone(tmp_path: Path) -> None:
    page = epath.Path(tmp_path / "RESULTS.md")
    with pytest.raises(RequestError, match="there is no study in"):
        update_page(page, [str(tmp_path / "nothing")])
    assert not page.exists()
