// The app of `bench.endpoint`: a function of three steps that answers at once, and when it was called.
//
//     node endpoint_app.cjs sdk|bare    with PORT, and for `sdk` with SDK_MODULES (where `inngest-v4` is installed)
//
// `sdk` is the unmodified SDK over node http; `bare` speaks the protocol by hand, to tell our cost from the SDK's.
// GET /times gives [run, called at, answered at] of all calls since it was last asked, in seconds of the clock that all
// processes of a machine share. Each end of a run is a byte on the standard output.
const { createHash } = require("node:crypto");
const { createRequire } = require("node:module");
const http = require("node:http");
const path = require("node:path");

const APP = "endpoint";
const EVENT = "endpoint/three";
const STEPS = ["one", "two", "three"];
const { PORT, SDK_MODULES, INNGEST_DEV } = process.env;

let times = [];
let ended = 0;

function nowS() {
  return Number(process.hrtime.bigint()) / 1e9;
}

function tellEnds() {
  process.stdout.write(".".repeat(ended));
  ended = 0;
}

// Note when a call came and was answered.
function watched(handler) {
  return (request, response) => {
    if (request.url === "/times") {
      response.end(JSON.stringify(times));
      times = [];
      return;
    }
    const calledS = nowS();
    const end = response.end;
    response.end = function (...given) {
      if (request.method === "POST") {
        times.push([request.headers["x-run-id"], calledS, nowS()]);
        if (response.statusCode === 200 && ended++ === 0) setImmediate(tellEnds);
      }
      return end.apply(this, given);
    };
    handler(request, response);
  };
}

function withSdk() {
  const installed = createRequire(path.join(SDK_MODULES, "package.json"));
  const { Inngest } = installed("inngest-v4");
  const { serve } = installed("inngest-v4/node");
  const client = new Inngest({ id: APP, logger: { info() {}, warn() {}, error: console.error, debug() {} } });
  const three = client.createFunction({ id: "three", triggers: [{ event: EVENT }] }, async ({ event, step }) => {
    let n = event.data.n;
    for (const name of STEPS) n = await step.run(name, () => n + 1);
    return n;
  });
  return serve({ client, functions: [three] });
}

const HEADERS = { "content-type": "application/json", "x-inngest-sdk": "bare:v1", "x-inngest-req-version": "2" };
const IDS = STEPS.map((name) => createHash("sha1").update(name).digest("hex"));

function bare(request, response) {
  if (request.method !== "POST") return register(response);
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const { event, steps } = JSON.parse(Buffer.concat(parts));
    const done = Object.keys(steps).length;
    const data = event.data.n + done + 1;
    const ends = done === STEPS.length;
    const said = ends ? data - 1 : [{ op: "StepRun", id: IDS[done], displayName: STEPS[done], data }];
    const body = JSON.stringify(said);
    response.writeHead(ends ? 200 : 206, { ...HEADERS, "content-length": Buffer.byteLength(body) });
    response.end(body);
  });
}

async function register(response) {
  const url = `http://127.0.0.1:${PORT}/api/inngest`;
  const step = { id: "step", name: "step", runtime: { type: "http", url: `${url}?fnId=${APP}-three&stepId=step` } };
  const functions = [{ id: `${APP}-three`, name: "three", triggers: [{ event: EVENT }], steps: { step } }];
  const app = { url, deployType: "ping", framework: "bare", appName: APP, functions, sdk: "js:v4.24.0", v: "0.1" };
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${INNGEST_DEV}/fn/register`, { method: "POST", headers, body: JSON.stringify(app) });
  response.writeHead(answer.status, HEADERS);
  response.end(await answer.text());
}

http
  .createServer({ noDelay: true }, watched(process.argv[2] === "sdk" ? withSdk() : bare))
  .listen(Number(PORT), "127.0.0.1");
