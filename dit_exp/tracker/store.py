"""A run on an MLflow server or in a database: the calls that MLflow is asked to make.

MLflow is imported on the first call (2 seconds), with telemetry off and with short requests: a request that
fails is made again by the sender, which knows what waits behind it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dit_exp.errors import UserError
from dit_exp.tracker.address import bare, shown, sqlite_file
from dit_exp.tracker.spool import GROUP, Event, Spool, known_run, known_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""What MLflow reads from the environment, unless the user has set it."""

PARAMETERS, LENGTH = 100, 6000
"""MLflow's limits: parameters in a request, characters in a parameter."""


VIEW = "mlflow.sharedViewState."
"""What MLflow's UI calls a view, with its name behind it, among an experiment's tags."""


class Refused(Exception):
    """An event that the server will never take, as a metric's name with a character it does not allow."""


class Store:
    """Sends a spool's events to its run, which it creates with the first of them."""

    def __init__(self, uri: str, experiment: str, spool: Spool) -> None:
        self.uri, self.experiment, self.spool = uri, experiment, spool
        self._client: MlflowClient | None = None

    def connect(self) -> MlflowClient:
        """Reaches the server and finds the run there; one that has lost the run gets it anew, in full.

        So does another store than before, where the run is then another one; both are remembered.
        """
        if self._client is not None:
            return self._client
        with opened(self.uri) as client:
            self._experiment_id(client)
        spool, here = self.spool, bare(self.uri)
        known = spool.run_id is not None and has_run(client, spool.run_id)
        if spool.store in (None, here) or known:  # a store may have several addresses
            spool.store = here
        else:
            before, name = spool.store, spool.run_id
            spool.move(here)
            if name is not None:
                log.warning(
                    "This run is %s in %s, which %s does not know: here it is another one, and that one "
                    "stays as it is. With tracker.uri=%s the same command goes on there.",
                    name,
                    before,
                    shown(self.uri),
                    before,
                )
            known = spool.run_id is not None and has_run(client, spool.run_id)
        if spool.run_id is not None and not known:
            log.warning("%s has no run %s: it is sent anew.", shown(self.uri), spool.run_id)
            spool.mark(None, 0, [])
        self._client = client
        return client

    def send(self, events: list[Event]) -> None:
        """Sends events of one kind. Raises Refused where another try would not help, else MLflow's errors."""
        from mlflow.exceptions import MlflowException

        try:
            self._send(self.connect(), events)
        except MlflowException as error:
            if error.error_code == "INVALID_PARAMETER_VALUE" and self.spool.run_id is not None:
                raise Refused(str(error)) from error
            raise

    def _send(self, client: MlflowClient, events: list[Event]) -> None:
        event, run_id = events[0], self.spool.run_id
        if event["kind"] == "start":
            return self._start(client, event)
        assert run_id is not None, "the first event of a spool starts the run"
        match event["kind"]:
            case "metrics":
                self._metrics(client, run_id, events)
            case "image":
                self._image(client, run_id, event)
            case "artifact":
                path = self.spool.kept(event["file"])
                if path.exists():
                    client.log_artifact(run_id, str(path))
            case "view":
                self._view(client, run_id, event)
            case "finish":
                for key, value in self._parent(event).items():  # it may have been away at the start
                    client.set_tag(run_id, key, value)
                client.set_terminated(run_id, event["status"], event["time"])
        return None

    def _start(self, client: MlflowClient, event: Event) -> None:
        from mlflow.entities import Param, RunTag

        run_id, name, tags = self.spool.run_id, event["name"], event["tags"] | self._parent(event)
        if run_id is None:
            experiment = self._experiment_id(client)
            run_id = client.create_run(experiment, event["time"], tags, name).info.run_id
            self.spool.mark(run_id, self.spool.sent, [])
            log.info("MLflow run %s (%s) at %s", run_id, name, shown(self.uri))
        else:
            client.update_run(run_id, "RUNNING", name)
        parameters = {key: value[:LENGTH] for key, value in event["parameters"].items()}
        known = client.get_run(run_id).data.params
        changed = {k: v for k, v in parameters.items() if known.get(k, v) != v}
        if changed:  # MLflow does not change a parameter
            tags["resumed_with"] = " ".join(f"{key}={value}" for key, value in changed.items())[:LENGTH]
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        for batch in _batched([Param(k, v) for k, v in parameters.items() if k not in known], PARAMETERS):
            client.log_batch(run_id, params=batch)

    def _metrics(self, client: MlflowClient, run_id: str, events: list[Event]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(key, v, e["time"], e["step"]) for e in events for key, v in e["values"].items()]
        for batch in _batched(metrics, GROUP):
            client.log_batch(run_id, metrics=batch)

    def _image(self, client: MlflowClient, run_id: str, event: Event) -> None:
        """The key and the step give it a place in the UI's grid of pictures over steps."""
        from PIL import Image, UnidentifiedImageError

        path = self.spool.kept(event["file"])
        if not path.exists():
            return
        try:
            with Image.open(path) as picture:
                picture.load()
        except UnidentifiedImageError as error:
            raise Refused(str(error)) from error
        client.log_image(run_id, picture, key=event["name"], step=event["step"], timestamp=event["time"])

    def _view(self, client: MlflowClient, run_id: str, event: Event) -> None:
        """What the UI keeps for a view that is shared: its own table hides metrics until they are chosen."""
        columns = [f"metrics.`{name}`" for name in event["metrics"]]
        state = {
            "searchFilter": f"tags.mlflow.parentRunId = '{run_id}'",
            "orderByKey": columns[0],
            "orderByAsc": True,
            "selectedColumns": columns + [f"params.`{name}`" for name in event["parameters"]],
        }
        experiment = self._experiment_id(client)
        client.set_experiment_tag(experiment, f"{VIEW}{event['name']}", json.dumps(state))
        place = (
            f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={event['name']}"
        )
        client.set_tag(run_id, "table", place)
        log.info("Table of the sweep's scores in the MLflow UI: %s", place)

    def _parent(self, event: Event) -> dict[str, str]:
        """The tag that puts a run under its sweep's, once this store has given that one a name."""
        sweep = None if event["sweep"] is None else Path(event["sweep"])
        if sweep is None or known_store(sweep) not in (None, bare(self.uri)):
            return {}
        run_id = known_run(sweep)
        return {} if run_id is None else {"mlflow.parentRunId": run_id}

    def _experiment_id(self, client: MlflowClient) -> str:
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            file = sqlite_file(self.uri)
            place = (file.parent / "mlartifacts").as_uri() if file else None
            try:
                return client.create_experiment(self.experiment, place)
            except MlflowException:
                found = client.get_experiment_by_name(self.experiment)  # another run was faster
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise UserError(
                f"tracker.experiment={self.experiment} was deleted in {shown(self.uri)}. Choose another "
                f"name, or restore it: mlflow experiments restore --experiment-id {found.experiment_id}"
            )
        return found.experiment_id


def has_run(client: MlflowClient, run_id: str) -> bool:
    """Whether a store knows a run that was not deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


@contextmanager
def opened(uri: str) -> Iterator[MlflowClient]:
    """A client of a server or a database. Inside the block no other run opens the same SQLite file."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    from mlflow import MlflowClient

    with _alone(uri):
        logging.getLogger("alembic").setLevel(logging.WARNING)  # 50 lines for a new database
        yield MlflowClient(uri)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Keeps other runs waiting while a SQLite file is opened: two must not create its tables at once."""
    file = sqlite_file(uri)
    if file is None:
        yield
        return
    with Path(f"{file}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _batched(values: list[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(values)
    while batch := list(islice(rest, size)):
        yield batch
