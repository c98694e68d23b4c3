"""A tracking server whose store is a real PostgreSQL, started here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_server import ROOT, free_port, made_server

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
INSTALL = "apt-get install postgresql"
RUN = [
    "data=digits", "data.image_size=8", "metrics=none", "sampler.steps=2", "model.width=32", "model.depth=1",
    "model.heads=4", "trainer.batch_size=32", "trainer.max_steps=20", "trainer.log_every=1",
    "trainer.sample_every=0",
]  # fmt: skip


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """The address of an empty database, in a folder of its own."""
    if os.geteuid() != 0:
        pytest.skip("a database of its own is started by root, as the user postgres")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip(f"PostgreSQL is not installed. {INSTALL}")
    place, port = Path("/tmp") / f"dit_exp_postgres_{os.getpid()}", free_port()
    place.mkdir()
    shutil.chown(place, "postgres")
    user = ["runuser", "-u", "postgres", "--"]
    try:
        init = [*user, str(programs[-1]), "-D", str(place / "data"), "-A", "trust", "-U", "runs"]
        subprocess.run(init, check=True, capture_output=True, cwd=place)
        serve = [*user, str(programs[-1].parent / "postgres"), "-D", str(place / "data")]
        serve += ["-p", str(port), "-h", "127.0.0.1", "-k", str(place)]
        with (tmp_path / "postgres.log").open("wb") as output:
            server = subprocess.Popen(serve, cwd=place, stdout=output, stderr=output)
        try:
            ready = [str(programs[-1].parent / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
            end = time.monotonic() + 60
            while subprocess.run(ready, capture_output=True, check=False).returncode:
                assert server.poll() is None, (tmp_path / "postgres.log").read_text()
                assert time.monotonic() < end, (tmp_path / "postgres.log").read_text()
                time.sleep(0.2)
            yield f"postgresql://runs@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(timeout=60)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_two_runs_at_once_stand_in_postgresql_with_every_loss(database: str, tmp_path: Path):
    import psycopg

    with made_server(tmp_path, f"STORE={database}") as uri:
        runs = []
        for seed in (0, 1):
            words = [*RUN, f"seed={seed}", f"tracker.uri={uri}", f"run_dir={tmp_path}/{seed}"]
            command = [sys.executable, str(ROOT / "run.py"), *words]
            runs.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            )
        for run in runs:
            said, _ = run.communicate(timeout=300)
            assert run.returncode == 0, said
    with psycopg.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("select status from runs")
        assert cursor.fetchall() == [("FINISHED",)] * 2
        cursor.execute(
            "select run_uuid, array_agg(step order by step) from metrics where key='loss' group by 1"
        )
        assert [steps for _, steps in cursor.fetchall()] == [list(range(1, 21))] * 2
