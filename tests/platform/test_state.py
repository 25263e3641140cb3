"""Generated secrets and the state directory."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from arbplatform.state import SECRETS_FILE, load_or_make_secrets, state_directory


def test_secrets_are_made_once_and_only_their_owner_may_read_them(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    made = load_or_make_secrets(directory)
    assert load_or_make_secrets(directory) == made
    assert len(made.secret_key) >= 50
    Fernet(made.field_keys[0])
    assert stat.S_IMODE((directory / SECRETS_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert os.listdir(directory) == [SECRETS_FILE]


def test_processes_that_start_together_agree_on_the_secrets(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: load_or_make_secrets(tmp_path), range(32)))
    assert len(made) == 1


def test_two_installations_have_different_secrets(tmp_path: Path) -> None:
    assert load_or_make_secrets(tmp_path / "a").secret_key != load_or_make_secrets(tmp_path / "b").secret_key


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"SECRET_KEY": "x", "ARB_FIELD_KEYS": 5}'])
def test_a_damaged_file_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / SECRETS_FILE
    path.write_text(content)
    with pytest.raises(ImproperlyConfigured, match="restore it from a backup"):
        load_or_make_secrets(tmp_path)
    assert path.read_text() == content


def test_a_directory_that_cannot_be_made_is_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImproperlyConfigured, match="ARB_STATE_DIR"):
        load_or_make_secrets(tmp_path / "file" / "state")


def test_secrets_do_not_show_in_their_repr(tmp_path: Path) -> None:
    made = load_or_make_secrets(tmp_path)
    assert made.secret_key not in repr(made)


def test_the_directory_is_absolute_wherever_the_command_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARB_STATE_DIR", "here")
    assert state_directory() == tmp_path / "here"
