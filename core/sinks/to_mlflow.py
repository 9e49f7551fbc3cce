"""MLflow. The server comes from MLFLOW_TRACKING_URI; without it, a SQLite file in the runs folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from core.sinks.sink import Point, Subject

EXPERIMENT = "lora-tui"
_MOST_METRICS, _MOST_PARAMS = 1000, 100
"""MLflow takes no more in one call."""
_VALUE_LENGTH = 500
_IDENTITY = "lora_tui.identity"


class MLflow:
    """One MLflow run for each run, found again by its identity."""

    def __init__(self, subject: Subject, uri: str) -> None:
        self._client = MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self._client.get_experiment_by_name(name)
        where = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        known = self._client.search_runs([where], f"tags.`{_IDENTITY}` = '{subject.identity}'", max_results=1)
        if known and subject.sent:
            self._id = known[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        tags = {_IDENTITY: subject.identity}
        self._id = self._client.create_run(where, run_name=subject.name, tags=tags).info.run_id
        params = [Param(key, str(value)[:_VALUE_LENGTH]) for key, value in subject.facts.items()]
        for start in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + _MOST_PARAMS])

    def send(self, points: Sequence[Point]) -> None:
        """Metrics in batches."""
        metrics = [
            Metric(name, value, int(point.time * 1000), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for start in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[start : start + _MOST_METRICS])

    def close(self, outcome: Mapping[str, Any] | None) -> None:
        """The verdict becomes tags."""
        if outcome is None:
            return
        tags = [RunTag(key, str(value)[:_VALUE_LENGTH]) for key, value in outcome.items()]
        self._client.log_batch(self._id, tags=tags)
        status = {"done": "FINISHED", "stopped": "KILLED"}.get(str(outcome.get("state")), "FAILED")
        self._client.set_terminated(self._id, status)


def open_sink(subject: Subject) -> MLflow:
    """At the server of the environment, else beside the runs."""
    fallback = f"sqlite:///{subject.folder.parent.parent / 'mlflow.db'}"
    return MLflow(subject, os.environ.get("MLFLOW_TRACKING_URI") or fallback)
