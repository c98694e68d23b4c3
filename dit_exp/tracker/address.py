"""What tracker.uri may be. Checked without MLflow, which would try a wrong SQLite path again for minutes."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

from dit_exp.errors import UserError

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https")

INSTEAD = "Pass tracker.uri=sqlite:////DIR/mlflow.db or tracker.uri=http://HOST:PORT, or use tracker=none."


def check(uri: str) -> None:
    """Raises UserError for an address that cannot be one, and for a SQLite file that cannot be used."""
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in (*DATABASES, *SERVERS):
        known = ", ".join((*SERVERS, *DATABASES))
        raise UserError(f"tracker.uri={shown(uri)} is none of {known}. {INSTEAD}")
    if scheme in SERVERS:
        try:
            parts = urlsplit(uri)
            complete = parts.hostname and parts.port != 0
        except ValueError:
            complete = False
        if not complete:
            raise UserError(f"tracker.uri={shown(uri)} names no host and port. {INSTEAD}")
    if scheme == "sqlite":
        _check_sqlite(uri)


def check_readable(uri: str) -> None:
    """Raises UserError for what is no address. MLflow would make a SQLite file that is missing."""
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        raise UserError(
            f"tracker.uri={uri}: there is no such file, so it has no runs. Pass the address of one that has."
        )
    check(uri)


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite address, None for every other address and for one that names no file."""
    name = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri)
    return None if name is None or name[1] == ":memory:" else Path(name[1]).absolute()


def bare(uri: str) -> str:
    """What tells one store from another, fit to be kept on disk: no user, password or query.

    Like SQLAlchemy, it takes everything from a first colon to an @ for a password, a slash included.
    """
    if (file := sqlite_file(uri)) is not None:
        return f"sqlite:///{file}"
    scheme, _, rest = uri.partition("://")
    rest = re.split("[?#]", re.sub(r"^[^:/@]*(:[^@]*)?@", "", rest))[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}".rstrip("/")


def shown(text: str) -> str:
    """An address, or a text with addresses, without users and passwords."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def reason(error: Exception) -> str:
    """The first line of an error's text, short enough to stand inside a message."""
    return shown((str(error).splitlines() or [type(error).__name__])[0][:300])


def _check_sqlite(uri: str) -> None:
    file = sqlite_file(uri)
    if file is None:
        raise UserError(f"tracker.uri={uri} names no file. {INSTEAD}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        Path(f"{file}.lock").touch()
        database = sqlite3.connect(file, timeout=0)
        try:
            database.execute("BEGIN IMMEDIATE")  # reads the file and asks for the right to write
        finally:
            database.close()
    except (OSError, sqlite3.Error) as error:
        if "locked" not in str(error):
            raise UserError(f"tracker.uri={uri} cannot be used ({error}). {INSTEAD}") from error
