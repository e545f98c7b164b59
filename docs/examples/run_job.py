"""Register a script as a job, run it once, wait for its end, and print its log.

    python run_job.py HOST:PORT NAME SCRIPT

Needs the package grpcio, and dcron_pb2 and dcron_pb2_grpc as dcron's package has them.
"""

import hashlib
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc

from dcron.rpc import dcron_pb2 as pb
from dcron.rpc.dcron_pb2_grpc import PublicStub

MESSAGE_BYTES = 1024 * 1024
PAUSE_SECONDS = 1.0


def main(server: str, name: str, path: str) -> int:
    """Do it all, and return the script's own exit code, or 1 where it has none and did not succeed."""
    data = Path(path).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    script = pb.Script(sha256=digest, size_bytes=len(data), file_name=Path(path).name)
    with grpc.insecure_channel(server) as channel:
        dcron = PublicStub(channel)
        dcron.UploadScript(parts(digest, data))
        wanted = pb.Specification(schedule="@daily", interpreter="sh", script=script)
        dcron.CreateJob(pb.CreateJobRequest(name=name, specification=wanted))
        run = dcron.RunJob(pb.RunJobRequest(name=name, request_id=str(uuid.uuid4())))
        execution = settled(dcron, name, run.execution_id)
        try:
            for chunk in dcron.ReadLog(pb.ReadLogRequest(id=run.execution_id)):
                sys.stdout.buffer.write(chunk.data)
        except grpc.RpcError as error:
            sys.stderr.write(f"no log: {error.details()}\n")
    return exit_code_of(execution)


def parts(digest: str, data: bytes) -> Iterator[pb.UploadScriptRequest]:
    """The digest, and then the script in messages of a size that a node takes."""
    yield pb.UploadScriptRequest(sha256=digest)
    for start in range(0, len(data), MESSAGE_BYTES):
        yield pb.UploadScriptRequest(data=data[start : start + MESSAGE_BYTES])


def settled(dcron: PublicStub, name: str, execution_id: str) -> pb.Execution:
    """The execution once it has ended, or a person has said how; before that it may wait for another one."""
    while True:
        job = dcron.GetJob(pb.GetJobRequest(name=name))
        may_come = execution_id in (job.active.execution_id, *job.waiting_execution_ids)
        try:
            execution = dcron.WaitExecution(pb.WaitExecutionRequest(id=execution_id))
            if execution.state != pb.EXECUTION_STATE_RUNNING or execution.HasField("verdict_at"):
                return execution
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND or not may_come:
                raise
        time.sleep(PAUSE_SECONDS)


def exit_code_of(execution: pb.Execution) -> int:
    """The script's own exit code; else 0 for a success, and 1 for a signal, a timeout or a loss."""
    if execution.HasField("exit_code"):
        return execution.exit_code
    by_verdict = execution.state == pb.EXECUTION_STATE_RUNNING and execution.verdict == pb.VERDICT_SUCCEEDED
    return 0 if by_verdict or execution.state == pb.EXECUTION_STATE_SUCCEEDED else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
