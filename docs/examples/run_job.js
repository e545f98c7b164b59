// Run a job once, wait for its end, and print its log: node run_job.js HOST:PORT NAME PROTO
// Needs @grpc/grpc-js and @grpc/proto-loader; PROTO is dcron.proto.
const crypto = require("node:crypto");
const { promisify } = require("node:util");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [server, name, proto] = process.argv.slice(2);
const { dcron } = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true, enums: String, defaults: true }));
const client = new dcron.v1.Public(server, grpc.credentials.createInsecure());
const call = (method) => promisify(client[method].bind(client));

const sleep = promisify(setTimeout);
const PAUSE_MS = 1000;

async function main() {
  const run = await call("RunJob")({ name, request_id: crypto.randomUUID() });
  const execution = await settled(run.execution_id);
  try {
    for await (const chunk of client.ReadLog({ id: run.execution_id })) process.stdout.write(chunk.data);
  } catch (error) {
    console.error(`no log: ${error.details}`);
  }
  client.close();
  return exitCodeOf(execution);
}

// The execution once it has ended, or a person has said how; before that it may wait for another one.
async function settled(id) {
  for (;;) {
    const job = await call("GetJob")({ name });
    const mayCome = [job.active?.execution_id, ...job.waiting_execution_ids].includes(id);
    try {
      const execution = await call("WaitExecution")({ id });
      if (execution.state !== "EXECUTION_STATE_RUNNING" || execution.verdict_at) return execution;
    } catch (error) {
      if (error.code !== grpc.status.NOT_FOUND || !mayCome) throw error;
    }
    await sleep(PAUSE_MS);
  }
}

// The script's own exit code; else 0 for a success, and 1 for a signal, a timeout or a loss.
function exitCodeOf({ exit_code, state, verdict }) {
  const byVerdict = state === "EXECUTION_STATE_RUNNING" && verdict === "VERDICT_SUCCEEDED";
  return exit_code ?? (byVerdict || state === "EXECUTION_STATE_SUCCEEDED" ? 0 : 1);
}

main().then(
  (code) => (process.exitCode = code),
  (error) => {
    console.error(error.details ?? error.message);
    process.exit(1);
  },
);
