// Node apps with the unmodified SDK, on PORT: version 3 on Express, version 4 on node's own http.
const { Host, PACKAGES, SDK, installed } = require("./host.cjs");
const { addPlain, addOutside, addInvoking } = require("./plain.cjs");
const { addFailing, addEnding } = require("./failing.cjs");
const { addLimited } = require("./limited.cjs");
const { addHeld } = require("./held.cjs");
const { addDressed, middleware } = require("./dressed.cjs");

const host = new Host(process.env.MIDDLEWARE ? middleware() : []);
for (const add of [addPlain, addOutside, addInvoking, addFailing, addEnding, addLimited, addHeld, addDressed]) add(host);
const serving = { client: host.client, functions: host.functions };
const PORT = Number(process.env.PORT);

if (SDK === "v3") {
  const express = installed("express");
  const app = express();
  app.use(express.json({ limit: "10mb" }));
  app.use("/api/inngest", installed(`${PACKAGES.v3}/express`).serve(serving));
  app.listen(PORT, "127.0.0.1");
} else {
  installed(`${PACKAGES.v4}/node`).createServer(serving).listen(PORT, "127.0.0.1");
}
