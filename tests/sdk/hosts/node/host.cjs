// What the functions of a node app know of their test: its names, the ledger, and gates (see ../python/host.py).
// One shared module for versions 3 and 4 of the SDK: `SDK` says which, SDK_MODULES where it is installed.
const { createRequire } = require("node:module");
const fs = require("node:fs");
const path = require("node:path");

const { SDK, APP, LEDGER, GATES, OUTSIDE, SDK_MODULES, CHECKPOINTING, FUNCTIONS, VERSION } = process.env;
const installed = createRequire(path.join(SDK_MODULES, "package.json"));
const PACKAGES = { v3: "inngest-v3", v4: "inngest" };
const sdk = installed(PACKAGES[SDK]);
const GATE_LOOKED_AT_MS = 20;

function did(ctx, what, result = null, more = {}) {
  noted({ run: ctx.runId, what, attempt: ctx.attempt, ...more });
  return result;
}

function noted(row) {
  fs.appendFileSync(LEDGER, JSON.stringify({ run: "", at: Date.now() / 1000, ...row }) + "\n");
}

class Host {
  constructor(middleware) {
    const options = { ...(CHECKPOINTING === "no" && { checkpointing: false }), ...(VERSION && { appVersion: VERSION }) };
    this.client = new sdk.Inngest({ id: APP, middleware, ...options });
    this.functions = [];
  }

  // Serve a body, which starts on the event of its name unless `triggers` are given.
  function(id, options, body) {
    const { triggers = [{ event: `${APP}/${id}` }], ...rest } = options;
    const config = { id, retries: 4, ...rest };
    const called = (ctx) => (did(ctx, "call"), body(ctx));
    const made =
      SDK === "v3"
        ? this.client.createFunction(config, triggers, called)
        : this.client.createFunction({ ...config, triggers }, called);
    if (!FUNCTIONS || FUNCTIONS.split(",").includes(id)) this.functions.push(made);
    return made;
  }
}

// A step that begins, waits until the gate, that of the event, is open, and ends.
function gate(ctx, what, name = ctx.event.data.gate) {
  return async () => {
    did(ctx, `${what} begins`);
    while (!fs.existsSync(path.join(GATES, name))) {
      await new Promise((later) => setTimeout(later, GATE_LOOKED_AT_MS));
    }
    return did(ctx, what, "open");
  };
}

module.exports = { APP, OUTSIDE, PACKAGES, SDK, VERSION, Host, did, gate, installed, noted, sdk };
