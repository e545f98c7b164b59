"""Register a script as a job, run it once, wait for its end, and print its log.

    python run_job.py HOST:PORT NAME SCRIPT

Needs the package grpcio, and dcron_pb2 and dcron_pb2_grpc as dcron's package has them.
"""

import hashlib
import sys
import uuid
from pathlib import Path

import grpc

from dcron.rpc import dcron_pb2 as pb
from dcron.rpc.dcron_pb2_grpc import PublicStub


def main(server: str, name: str, path: str) -> int:
    """Do it all, and return the script's own exit code."""
    data = Path(path).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    script = pb.Script(sha256=digest, size_bytes=len(data), file_name=Path(path).name)
    with grpc.insecure_channel(server) as channel:
        dcron = PublicStub(channel)
        dcron.UploadScript(iter([pb.UploadScriptRequest(sha256=script.sha256, data=data)]))
        wanted = pb.Specification(schedule="@daily", interpreter="sh", script=script)
        dcron.CreateJob(pb.CreateJobRequest(name=name, specification=wanted))
        run = dcron.RunJob(pb.RunJobRequest(name=name, request_id=str(uuid.uuid4())))
        execution = dcron.WaitExecution(pb.WaitExecutionRequest(id=run.execution_id))
        while execution.state == pb.EXECUTION_STATE_RUNNING:
            execution = dcron.WaitExecution(pb.WaitExecutionRequest(id=run.execution_id))
        for chunk in dcron.ReadLog(pb.ReadLogRequest(id=run.execution_id)):
            sys.stdout.buffer.write(chunk.data)
        return execution.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
