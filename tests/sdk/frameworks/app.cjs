// An app with the unmodified SDK in a web framework of node: FRAMEWORK says which, `SDK` which version, APP its id, PORT
// where it listens, SDK_MODULES where all is installed.
const { createRequire } = require("node:module");
const http = require("node:http");
const path = require("node:path");

const { APP, FRAMEWORK, SDK, SDK_MODULES } = process.env;
const PORT = Number(process.env.PORT);
const installed = createRequire(path.join(SDK_MODULES, "package.json"));
const { Inngest } = installed(`inngest-${SDK}`);
const HOST = "127.0.0.1";
const WHERE = "/api/inngest";

const client = new Inngest({ id: APP });

// Steps in a row and side by side, a sleep, an error that is caught.
async function everything({ event, step }) {
  const one = await step.run("one", () => event.data.n + 1);
  const [two, three] = await Promise.all([step.run("two", () => one * 2), step.run("three", () => ({ is: one }))]);
  await step.sleep("rest", "50ms");
  const refuse = () => {
    throw new Error("no");
  };
  const caught = await step.run("refuse", refuse).catch((error) => error.message);
  return { one, two, three, caught };
}

const options = { id: "everything", retries: 0 };
const triggers = [{ event: `${APP}/everything` }];
const made =
  SDK === "v3"
    ? client.createFunction(options, triggers, everything)
    : client.createFunction({ ...options, triggers }, everything);
const serve = installed(`inngest-${SDK}/${FRAMEWORK}`).serve({ client, functions: [made] });

const FRAMEWORKS = {
  // What speaks Request and Response, as Cloudflare, Deno and Bun do.
  edge() {
    installed("@hono/node-server").serve({ fetch: serve, port: PORT, hostname: HOST });
  },
  express() {
    const express = installed("express");
    const app = express();
    app.use(express.json({ limit: "4mb" }));
    app.use(WHERE, serve);
    app.listen(PORT, HOST);
  },
  fastify() {
    const app = installed("fastify")();
    app.route({ method: ["GET", "POST", "PUT"], handler: serve, url: WHERE });
    app.listen({ port: PORT, host: HOST });
  },
  h3() {
    const { createApp, createRouter, eventHandler, toNodeListener } = installed("h3");
    const router = createRouter().use(WHERE, eventHandler(serve)); // Under app.use(WHERE, …) the SDK would not see its path.
    http.createServer(toNodeListener(createApp().use(router))).listen(PORT, HOST);
  },
  hono() {
    const { Hono } = installed("hono");
    const app = new Hono();
    app.on(["GET", "POST", "PUT"], WHERE, serve);
    installed("@hono/node-server").serve({ fetch: app.fetch, port: PORT, hostname: HOST });
  },
  koa() {
    const Koa = installed("koa");
    const app = new Koa();
    app.use(installed("koa-bodyparser")());
    app.use((ctx) => (ctx.request.path === WHERE ? serve(ctx) : undefined));
    app.listen(PORT, HOST);
  },
};

FRAMEWORKS[FRAMEWORK]();
