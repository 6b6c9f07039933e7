"""Local AWS for ``make test-deploy``: MiniStack, and an AWS Batch whose jobs run on this machine.

Runs in an environment of its own (see the Makefile), where MiniStack and the SAM CLI are installed:
``python emulator.py PORT TRANSFERLITE PYTHON`` serves on 127.0.0.1 until it is stopped. TRANSFERLITE is the command of
the jobs, PYTHON the interpreter of the function.
"""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

PORT, TRANSFERLITE, FUNCTION_PYTHON = sys.argv[1:4]
os.environ |= {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": PORT, "MINISTACK_HOST": "127.0.0.1"}

from ministack import app  # noqa: E402
from ministack.core import lambda_runtime  # noqa: E402
from ministack.services import batch, stepfunctions  # noqa: E402
from ministack.services.cloudformation import provisioners  # noqa: E402

Created = tuple[str, dict[str, str]]


def _lower(value: Any) -> Any:
    """Return the keys as Batch's API has them: with a small first letter."""
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: _lower(child) for key, child in value.items()}
    return [_lower(item) for item in value] if isinstance(value, list) else value


def _create(call: Callable[[Any], Any], name: str, arn: str) -> Callable[[str, Any, str], Created]:
    """Make a handler of CloudFormation that creates a resource by one call of Batch."""

    def create(logical_id: str, properties: Any, stack: str) -> Created:
        given = _lower(properties) | {name: f"{stack}-{logical_id}-{uuid.uuid4().hex[:8]}"}
        status, _headers, body = call(given)
        answer = json.loads(body)
        if status != 200:
            raise ValueError(f"AWS Batch: {answer}")
        return answer[arn], {}

    return create


def _delete(records: Any, arn: str) -> Callable[[str, Any], None]:
    def delete(physical_id: str, _properties: Any) -> None:
        for name, record in list(records.items()):
            if any(item[arn] == physical_id for item in (record if isinstance(record, list) else [record])):
                del records[name]

    return delete


def _handler(call: Callable[[Any], Any], records: Any, kind: str) -> dict[str, Any]:
    return {
        "create": _create(call, f"{kind}Name", f"{kind}Arn"),
        "update": lambda physical_id, _old, _new, _stack: (physical_id, {}),
        "delete": _delete(records, f"{kind}Arn"),
    }


def _environment(definition: str) -> dict[str, str]:
    found = [item for items in batch._job_definitions.values() for item in items]
    (properties,) = [item["containerProperties"] for item in found if item["jobDefinitionArn"] == definition]
    return {item["name"]: item["value"] for item in properties.get("environment") or []}


def _run_job(_resource: str, given: dict[str, Any]) -> dict[str, Any]:
    """Run a job's command to its end, as ``batch:submitJob.sync`` does; return its details."""
    command = [str(word) for word in given["ContainerOverrides"]["Command"]]
    here = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    environment = {**os.environ, **here, **_environment(given["JobDefinition"]), "AWS_BATCH_JOB_ATTEMPT": "1"}
    started = int(time.time() * 1000)
    done = subprocess.run([TRANSFERLITE, *command], env=environment, capture_output=True, text=True, check=False)
    print(f"job {given['JobName']}: status {done.returncode}\n{done.stdout}{done.stderr}", flush=True)
    job_id = uuid.uuid4().hex
    batch._jobs[job_id] = {
        "jobId": job_id,
        "jobName": given["JobName"],
        "jobQueue": given["JobQueue"],
        "jobDefinition": given["JobDefinition"],
        "status": "FAILED" if done.returncode else "SUCCEEDED",
        "createdAt": started,
        "startedAt": started,
        "stoppedAt": int(time.time() * 1000),
        "container": {"exitCode": done.returncode},
    }
    details = {"JobId": job_id, "Container": {"ExitCode": done.returncode}}
    if done.returncode:
        raise stepfunctions._ExecutionError("States.TaskFailed", json.dumps(details))
    return details


provisioners._RESOURCE_HANDLERS |= {
    "AWS::Batch::ComputeEnvironment": _handler(
        batch._create_compute_environment, batch._compute_envs, "computeEnvironment"
    ),
    "AWS::Batch::JobQueue": _handler(batch._create_job_queue, batch._job_queues, "jobQueue"),
    "AWS::Batch::JobDefinition": _handler(batch._register_job_definition, batch._job_definitions, "jobDefinition"),
}
stepfunctions._SERVICE_DISPATCH |= {
    "arn:aws:states:::batch:submitJob": _run_job,
    "arn:aws:states:::aws-sdk:s3:getObject": lambda _resource, given: {
        "Body": stepfunctions._s3_object_text(given["Bucket"], given["Key"])
    },
}

_context, _apply_parameters = threading.local(), stepfunctions._apply_parameters


def _keep_context(state: Any, data: Any, context: Any = None) -> Any:
    _context.last = context
    return _apply_parameters(state, data, context)


def _select_with_context(state: Any, data: Any) -> Any:
    """Evaluate a ResultSelector, in which Step Functions allows ``$$``, too."""
    selector = state.get("ResultSelector")
    return stepfunctions._resolve_params_obj(selector, data, _context.last) if selector else data


stepfunctions._apply_parameters = _keep_context
stepfunctions._apply_result_selector = _select_with_context
lambda_runtime._detect_runtime_binary = lambda _runtime: (FUNCTION_PYTHON, lambda_runtime._PYTHON_WORKER_SCRIPT)

_create_mapping = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]["create"]


def _create_mapping_with_numbers(logical_id: str, properties: Any, stack: str) -> Created:
    """Convert the concurrency, which a parameter holds as text; CloudFormation converts it by its schema."""
    scaling = properties.get("ScalingConfig", {})
    if "MaximumConcurrency" in scaling:
        properties = properties | {"ScalingConfig": {"MaximumConcurrency": int(scaling["MaximumConcurrency"])}}
    created: Created = _create_mapping(logical_id, properties, stack)
    return created


provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]["create"] = _create_mapping_with_numbers

if __name__ == "__main__":
    sys.argv = sys.argv[:1]
    app.main()
