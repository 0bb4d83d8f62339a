// An app with one of the unmodified SDKs: SDK=v3 (Express) or v4 (node's own http), on PORT, with the id APP.
const { SDK, PORT, APP } = process.env;

async function v3() {
  const express = (await import("express")).default;
  const { Inngest } = await import("inngest-v3");
  const { serve } = await import("inngest-v3/express");
  const client = new Inngest({ id: APP });
  const hello = client.createFunction({ id: "hello", retries: 2 }, { event: "app/hello" }, () => "done");
  const app = express();
  app.use(express.json({ limit: "8mb" }));
  app.use("/api/inngest", serve({ client, functions: [hello] }));
  app.listen(Number(PORT), "127.0.0.1");
}

async function v4() {
  const { Inngest } = await import("inngest-v4");
  const { createServer } = await import("inngest-v4/node");
  const client = new Inngest({ id: APP });
  const hello = client.createFunction({ id: "hello", retries: 2, triggers: [{ event: "app/hello" }] }, () => "done");
  createServer({ client, functions: [hello] }).listen(Number(PORT), "127.0.0.1");
}

await { v3, v4 }[SDK]();
