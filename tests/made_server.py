"""The tracking server that `make server` starts, on a free port of the loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def made_server(folder: Path, *words: str, **env: str) -> Iterator[str]:
    """The address of a server made with these words, which has begun to answer; it is killed at the end."""
    port = free_port()
    command = ["make", "-f", str(ROOT / "Makefile"), "-o", ".venv/done", "server", f"PORT={port}", *words]
    command += [f"ARTIFACTS={folder}/mlartifacts", f"BIN={Path(sys.executable).parent}"]
    said = folder / "server.log"
    with said.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | env, stdout=output, stderr=output, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 180
        while not _answers(uri):
            assert server.poll() is None, said.read_text()
            assert time.monotonic() < end, said.read_text()
            time.sleep(0.3)
        yield uri
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _answers(uri: str) -> bool:
    try:
        urllib.request.urlopen(f"{uri}/health", timeout=20).close()
    except urllib.error.HTTPError:  # it wants a password
        return True
    except OSError:
        return False
    return True
