"""An owner's name stands for one lock file under one kernel, and for nothing else."""

import shutil
from pathlib import Path

import pytest

from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.identity import owner_of


def lock(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "engine.lock"
    path.touch()
    return path


def test_a_life_after_a_life_is_the_same_owner(tmp_path: Path) -> None:
    assert owner_of(lock(tmp_path)) == owner_of(lock(tmp_path))


def test_the_same_path_on_another_host_of_the_same_name_is_another_owner(tmp_path: Path) -> None:
    assert owner_of(lock(tmp_path / "host-1/var")) != owner_of(lock(tmp_path / "host-2/var"))


def test_a_copy_of_the_folder_is_another_owner(tmp_path: Path) -> None:
    first = owner_of(lock(tmp_path / "var"))
    shutil.copytree(tmp_path / "var", tmp_path / "copy")
    assert (tmp_path / "copy/engine.id").read_text() == (tmp_path / "var/engine.id").read_text()
    assert owner_of(tmp_path / "copy/engine.lock") != first


def test_the_same_disk_under_another_kernel_is_another_owner(tmp_path: Path) -> None:
    boots = [tmp_path / "boot-1", tmp_path / "boot-2"]
    for number, boot in enumerate(boots):
        boot.write_text(f"{number}\n")
    first, second = (owner_of(lock(tmp_path), boot) for boot in boots)
    assert first != second


def test_without_a_boot_id_each_start_is_somebody_new(tmp_path: Path) -> None:
    assert owner_of(lock(tmp_path), tmp_path / "none") != owner_of(lock(tmp_path), tmp_path / "none")


def test_a_lock_file_that_is_not_there_fails_in_words(tmp_path: Path) -> None:
    with pytest.raises(JournalFailed, match="No such file"):
        owner_of(tmp_path / "engine.lock")
