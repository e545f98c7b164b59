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

async function main() {
  const run = await call("RunJob")({ name, request_id: crypto.randomUUID() });
  let execution;
  do {
    execution = await call("WaitExecution")({ id: run.execution_id });
  } while (execution.state === "EXECUTION_STATE_RUNNING");
  for await (const chunk of client.ReadLog({ id: run.execution_id })) process.stdout.write(chunk.data);
  client.close();
  return execution.exit_code;
}

main().then(
  (code) => (process.exitCode = code),
  (error) => {
    console.error(error.details ?? error.message);
    process.exit(1);
  },
);
