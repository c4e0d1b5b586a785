"""Every configured secret file is rejected if it holds a placeholder or if every user can read it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from foundation.models import StrictModel
from foundation.registry import Only, Registry
from foundation.secrets import SecretFile, is_reference, must_be_secret, secret_of
from responder.app.settings import Config

NOT_SECRET = {"stop_file", "config_file", "ca_file"}


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    if isinstance(annotation, Registry):
        yield from annotation.all().values()
    if isinstance(annotation, Only):
        yield annotation.load()
    for inner in get_args(annotation):
        yield from models_in(inner)


def fields_below(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[tuple[str, FieldInfo]]:
    """Every field of the configuration, including those of union members."""
    seen.add(model)
    for name, field in model.model_fields.items():
        yield f"{model.__name__}.{name}", field
        for inner in models_in(field.annotation):
            if inner not in seen:
                yield from fields_below(inner, seen)


def secret_files() -> dict[str, FieldInfo]:
    found = {}
    for name, field in fields_below(Config, set()):
        key = name.rpartition(".")[2]
        if (key.endswith(("_file", "_files")) and key not in NOT_SECRET) or name == "Token.file":
            found[name] = field
    return found


FILES = secret_files()


def test_all_secret_files_are_found() -> None:
    known = {
        "Token.file",
        "Config.state_password_file",
        "DatabaseSettings.password_file",
        "SlackSettings.webhook_url_file",
    }
    known |= {"GooglePlaySettings.key_file", "AppStoreSettings.key_file", "Encryption.older_key_files"}
    assert known <= FILES.keys(), sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_each_file_with_a_placeholder_is_rejected(name: str, tmp_path: Path) -> None:
    file, field = tmp_path / "secret", FILES[name]
    value = (file,) if name.endswith("s") else file
    accepts = TypeAdapter(field.rebuild_annotation()).validate_python
    file.write_text("sesame-open-yourself\n")
    assert accepts(value) == value
    file.write_text("$SESAME\n")
    with pytest.raises(
        ValidationError, match=f"{file} holds an unexpanded reference; replace it with the secret itself"
    ):
        accepts(value)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("$NAME", True),
        ("${NAME}\n", True),
        ("$(cat /run/secret)", True),
        ("%NAME%", True),
        ("{{ name }}", True),
        ("'$NAME'", True),
        ("https://hooks.example/services/$SLACK_PATH", True),
        ("postgresql://owner:${PGPASSWORD}@db/shop", True),
        ('{"type": "service_account", "private_key": "$KEY"}', True),
        ("Bearer $TOKEN", True),
        ("a$b", False),
        ("pa$$word", False),
        ("100%", False),
        ("-----BEGIN PRIVATE KEY-----\nMC4CAQ$\n-----END PRIVATE KEY-----", False),
        ("", False),
    ],
)
def test_what_counts_as_a_placeholder(text: str, reference: bool) -> None:
    assert is_reference(text) is reference


def test_irregular_files_are_left_to_their_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "gone", tmp_path / "pipe", tmp_path):
        assert must_be_secret(file) == file


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user of the host can enter; pytest's own are private."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("file", "directory", "refused"),
    [(0o644, 0o755, True), (0o604, 0o711, True), (0o640, 0o755, False), (0o600, 0o755, False), (0o644, 0o750, False)],
)
def test_a_world_readable_secret_is_rejected(open_directory: Path, file: int, directory: int, refused: bool) -> None:
    secret = open_directory / "alice.token"
    secret.write_text("sesame-open-yourself")
    secret.chmod(file)
    open_directory.chmod(directory)
    if not refused:
        assert must_be_secret(secret) == secret
        return
    with pytest.raises(ValueError, match=f"{secret} can be read by every user of this host; chmod o= {secret}"):
        must_be_secret(secret)


class Account(StrictModel):
    """A pair of fields for one secret."""

    token: SecretStr | None = None
    token_file: SecretFile | None = None


def test_a_secret_is_given_itself_or_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" sesame\r\n")
    assert secret_of(Account(token=SecretStr("sesame ")), "token") == "sesame "
    assert secret_of(Account(token_file=file), "token") == "sesame"


@pytest.mark.parametrize("given", [{}, {"token": "a", "token_file": "/a"}])
def test_neither_or_both_are_a_mistake(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^needs exactly one of token, token_file$"):
        secret_of(Account.model_validate(given), "token")


def test_a_file_that_cannot_be_read_is_named_with_its_setting(tmp_path: Path) -> None:
    account = Account(token_file=tmp_path / "token")
    expected = f"No such file or directory; expected a file that uid {os.geteuid()} can read"
    with pytest.raises(ValueError, match=f"^token_file: {tmp_path}/token cannot be read: {expected}$"):
        secret_of(account, "token")
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=f"^token_file: {tmp_path}/token cannot be read: expected UTF-8 text$"):
        secret_of(account, "token")
