"""Lint, form and types are tests like any other: what a commit must pass, told in the tool's own words."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = {
    "lint": ("ruff", "check", "--no-cache", "."),
    "form": ("ruff", "format", "--no-cache", "--check", "."),
    "types": ("mypy",),  # the files and the strictness stand in pyproject.toml
}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_source_passes(tool: str, repo_root: Path):
    done = subprocess.run(
        [sys.executable, "-m", *TOOLS[tool]], cwd=repo_root, capture_output=True, text=True, check=False
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0, f"{' '.join(TOOLS[tool])}:\n{done.stdout}{done.stderr}"


def test_the_tools_can_find_fault(tmp_path: Path, repo_root: Path):
    """The same tools with the same settings, on a file that is wrong in all three ways."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import os\ndef f( x ): return x\n")
    settings = str(repo_root / "pyproject.toml")
    for arguments in (
        ("ruff", "check", "--no-cache", "--config", settings, str(wrong)),
        ("ruff", "format", "--no-cache", "--check", "--config", settings, str(wrong)),
        ("mypy", "--config-file", settings, "--cache-dir", str(tmp_path), str(wrong)),
    ):
        done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 1, f"{arguments} found nothing:\n{done.stdout}{done.stderr}"
