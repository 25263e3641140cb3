"""The `arb` script, run by a real bash on real virtual environments, with a tiny package in place of the real list."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MANAGE = """import os, sys, tiny
print("ran", tiny.VERSION, sys.argv[1:], os.getcwd())
"""
TOOLS = ("bash", "cat", "cut", "dirname", "env", "grep", "mkdir", "readlink", "rm", "sha256sum", "tail")


def make_wheel(folder: Path, version: str) -> Path:
    wheel = folder / f"tiny-{version}-py3-none-any.whl"
    info = f"tiny-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return wheel


def requirement(wheel: Path, digest: str | None = None) -> str:
    digest = digest or hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"tiny @ file://{wheel} --hash=sha256:{digest}\n"


def make_project(folder: Path) -> Path:
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "arb", folder / "arb")
    (folder / "manage.py").write_text(MANAGE)
    for name in ("requirements.txt", "requirements-test.txt"):
        (folder / name).write_text(requirement(make_wheel(folder, "1.0")))
    return folder


def arb(
    project: Path, *arguments: str, cwd: Path | None = None, user: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(project / "arb"), *arguments],
        check=False, cwd=cwd or project, env=clean_environment(environment), capture_output=True, text=True,
        timeout=110, user=user, group=user, extra_groups=None if user is None else [],
    )  # fmt: skip


def clean_environment(changes: Mapping[str, str]) -> dict[str, str]:
    # The interpreter of this run makes the environments; pip's own settings of this machine stay out.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "VIRTUAL_ENV"))}
    return {**kept, "ARB_PYTHON": sys._base_executable, "HOME": "/nonexistent", **changes}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose environment was made by its first run."""
    project = make_project(tmp_path_factory.mktemp("made") / "project")
    done = arb(project, "hello")
    assert done.returncode == 0, done.stderr
    assert "installing requirements.txt" in done.stderr
    return project


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(made, tmp_path / "project", symlinks=True))


def tools(folder: Path, **scripts: str) -> str:
    """Return a PATH that has the tools the script may use, and ``scripts``, but no Python."""
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name))
    for name, body in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def one_sentence(text: str) -> bool:
    return text.startswith("arb: ") and text.count("\n") == 1 and "Traceback" not in text


def test_the_first_run_makes_the_environment_and_the_next_finds_it(project: Path) -> None:
    done = arb(project, "hello", "--flag", "two words")
    assert done.stdout == f"ran 1.0 ['hello', '--flag', 'two words'] {project}\n"
    assert done.stderr == ""


def test_what_the_tests_installed_serves_the_other_commands(project: Path) -> None:
    for name in ("requirements.txt", "requirements-test.txt"):
        (project / name).write_text(requirement(make_wheel(project, "2.0")))
    assert "installing requirements-test.txt" in arb(project, "test").stderr
    done = arb(project, "hello")
    assert (done.stdout.split()[:2], done.stderr) == (["ran", "2.0"], "")


def test_it_works_from_anywhere_and_through_a_symbolic_link(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "first").symlink_to("../project/arb")
    (elsewhere / "second").symlink_to(elsewhere / "first")
    done = subprocess.run(
        [elsewhere / "second", "hello"], cwd=elsewhere, env=clean_environment({}), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == f"ran 1.0 ['hello'] {elsewhere}\n"


def test_a_changed_list_is_installed(project: Path) -> None:
    (project / "requirements.txt").write_text(requirement(make_wheel(project, "2.0")))
    done = arb(project, "hello")
    assert done.stdout.startswith("ran 2.0")
    assert arb(project, "hello").stderr == ""


def test_tests_have_their_own_list(project: Path) -> None:
    (project / "requirements-test.txt").write_text(requirement(make_wheel(project, "3.0")))
    assert arb(project, "hello").stdout.startswith("ran 1.0")
    assert arb(project, "test").stdout.startswith("ran 3.0")


@pytest.mark.parametrize("damage", ["interrupted", "no pip", "dangling python", "empty folder"])
def test_a_half_made_environment_is_made_again(project: Path, damage: str) -> None:
    venv = project / ".venv"
    if damage == "interrupted":
        (venv / ".unfinished").touch()
        next(venv.glob("lib/*/site-packages/tiny.py")).unlink()
    elif damage == "no pip":
        shutil.rmtree(next(venv.glob("lib/*/site-packages/pip")))
        (venv / ".installed-requirements").unlink()
    elif damage == "dangling python":
        for python in (venv / "bin").glob("python*"):
            python.unlink()
        (venv / "bin" / "python").symlink_to("/nonexistent/python")
    else:
        shutil.rmtree(venv)
        venv.mkdir()
    done = arb(project, "hello")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ran 1.0")
    assert "incomplete" in done.stderr
    assert arb(project, "hello").stderr == ""


def test_a_package_that_is_not_the_pinned_one_is_refused(project: Path) -> None:
    (project / "requirements.txt").write_text(requirement(make_wheel(project, "2.0"), digest="0" * 64))
    done = arb(project, "hello")
    assert done.returncode == 1
    assert "not the one that was pinned" in done.stderr
    assert done.stdout == ""
    assert arb(project, "hello").returncode == 1  # and is not taken for installed


def test_no_network_is_one_sentence(project: Path) -> None:
    (project / "requirements.txt").write_text(f"nowhere==1.0 --hash=sha256:{'0' * 64}\n")
    done = arb(project, "hello", PIP_INDEX_URL="http://127.0.0.1:9/simple")
    assert done.returncode == 1
    assert "no connection to the package index" in done.stderr
    # The environment that was there is still whole.
    (project / "requirements.txt").write_text(requirement(project / "tiny-1.0-py3-none-any.whl"))
    assert "incomplete" not in arb(project, "hello").stderr


def test_a_killed_install_is_begun_anew(project: Path) -> None:
    python = project / ".venv" / "bin" / "python"
    real = python.resolve()
    python.unlink()
    python.write_text(f'#!/bin/bash\ncase "$*" in *"pip install"*) kill -9 $$ ;; esac\nexec {real} "$@"\n')
    python.chmod(0o755)
    (project / ".venv" / ".installed-requirements").unlink()
    done = arb(project, "hello")
    assert done.returncode == 1
    assert "arb: installing was killed by signal 9" in done.stderr
    again = arb(project, "hello")
    assert "incomplete" in again.stderr
    assert again.stdout.startswith("ran 1.0")


def test_two_at_once_make_one_environment(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    both = [
        subprocess.Popen(
            [project / "arb", "hello"],
            env=clean_environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=110) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum("installing requirements.txt" in stderr for _, stderr in outputs) == 1
    assert sum("waiting for it" in stderr for _, stderr in outputs) == 1


def test_a_folder_that_cannot_be_written_is_one_sentence() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        Path(folder).chmod(0o755)
        project = make_project(Path(folder) / "project")
        project.chmod(0o555)
        # Root may write anywhere, so somebody else tries.
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        done = arb(project, "hello", user=user)
        project.chmod(0o755)
    assert done.returncode == 1
    assert one_sentence(done.stderr), done.stderr
    assert "cannot be written" in done.stderr


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    path = tools(tmp_path / "bin", python3="echo 3.9", python="echo 2.7")
    done = arb(project, "hello", PATH=path, ARB_PYTHON="")
    assert done.returncode == 1
    assert one_sentence(done.stderr), done.stderr
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "python3 is 3.9" in done.stderr


def test_no_python_at_all_is_one_sentence(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    done = arb(project, "hello", PATH=tools(tmp_path / "bin"), ARB_PYTHON="")
    assert done.returncode == 1
    assert one_sentence(done.stderr), done.stderr


def test_a_python_without_venv_names_the_package_to_install(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    no_venv = 'case "$*" in *ensurepip*) exit 1 ;; *) echo 3.12 ;; esac'
    done = arb(project, "hello", PATH=tools(tmp_path / "bin", python3=no_venv), ARB_PYTHON="")
    assert done.returncode == 1
    assert one_sentence(done.stderr), done.stderr
    assert "apt-get install python3.12-venv" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_needs_no_environment(tmp_path: Path, arguments: list[str]) -> None:
    project = make_project(tmp_path / "project")
    done = arb(project, *arguments, PATH=tools(tmp_path / "bin"))
    assert done.returncode == 0
    assert "Usage: ./arb COMMAND" in done.stdout
    assert not (project / ".venv").exists()


def test_every_command_that_help_lists_exists() -> None:
    from django.core.management import get_commands

    listed = subprocess.run([ROOT / "arb"], capture_output=True, text=True, check=True).stdout
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("  ")]
    assert {"demo", "up", "doctor", "test"} <= set(names)
    assert set(names) - {"lock"} <= set(get_commands())
