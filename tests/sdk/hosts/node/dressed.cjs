// What the SDK does by itself: middleware, encryption, a logger, triggers. Same names as in ../python/dressed.py.
const { APP, SDK, VERSION, did, installed, noted, sdk } = require("./host.cjs");

const CHANGED = "changed on the way in";

function changed(ctx) {
  if (ctx.event.data.plain) ctx.event.data.plain = CHANGED;
  return ctx;
}

// Notes each hook; an event with `plain` comes in changed, and the function's result goes out in an envelope.
function noting() {
  if (SDK === "v3") {
    const onFunctionRun = () => ({
      transformInput: ({ ctx }) => ({ ctx: changed(ctx) }),
      beforeExecution: () => noted({ what: "before execution" }),
      afterExecution: () => noted({ what: "after execution" }),
      beforeResponse: () => noted({ what: "before response" }),
      transformOutput: ({ result, step }) => (step ? {} : { result: { data: { envelope: result.data } } }),
    });
    const onSendEvent = () => ({
      transformInput: ({ payloads }) => noted({ what: "before sending", names: payloads.map((each) => each.name) }),
      transformOutput: ({ result }) => noted({ what: "after sending", ids: result.ids }),
    });
    return new sdk.InngestMiddleware({ name: "noting", init: () => ({ onFunctionRun, onSendEvent }) });
  }
  return class Noting extends sdk.Middleware.BaseMiddleware {
    id = "noting";
    transformFunctionInput(given) {
      return { ...given, ctx: changed(given.ctx) };
    }
    async wrapFunctionHandler({ next }) {
      noted({ what: "before execution" });
      const data = await next();
      noted({ what: "after execution" });
      return { envelope: data };
    }
    async wrapRequest({ next }) {
      const answer = await next();
      noted({ what: "before response" });
      return answer;
    }
    async wrapSendEvent({ events, next }) {
      noted({ what: "before sending", names: events.map((each) => each.name) });
      const sent = await next();
      noted({ what: "after sending", ids: sent.ids });
      return sent;
    }
  };
}

// What the client is given where MIDDLEWARE is set: encryption, which is there for version 4, and the one above.
function middleware() {
  if (SDK === "v3") return [noting()];
  return [installed("@inngest/middleware-encryption").encryptionMiddleware({ key: "a key of the app" }), noting()];
}

function addDressed(host) {
  const see = async (ctx) => ctx.step.run("see", () => did(ctx, "see", ctx.event.data.plain));
  const changes = host.function("changed", {}, see);

  host.function("sees-changed", {}, async (ctx) => {
    const got = await ctx.step.invoke("call", { function: changes, data: { plain: "as it was sent" } });
    await ctx.step.run("see", () => did(ctx, "saw", null, { got }));
  });

  host.function("secret", {}, async (ctx) => {
    const text = await ctx.step.run("make", () => did(ctx, "make", `the secret of ${ctx.runId}`));
    const data = { of: ctx.runId, encrypted: { text } };
    await ctx.step.sendEvent("tell", { name: `${APP}/told-secretly`, data });
    return ctx.step.run("read", () => did(ctx, `read ${text}`, text));
  });

  host.function("told-secretly", {}, async (ctx) =>
    did(ctx, "told", null, { of: ctx.event.data.of, text: ctx.event.data.encrypted.text }),
  );

  host.function("logs", {}, async (ctx) => {
    await ctx.step.run("first", () => did(ctx, "first"));
    ctx.logger.warn(`${ctx.runId} says so`);
  });

  host.function("version", {}, async (ctx) => {
    const first = await ctx.step.run("first", () => did(ctx, "first", VERSION));
    const go = { event: `${APP}/go`, if: "event.data.id == async.data.id", timeout: "1h" };
    await ctx.step.waitForEvent("go", go);
    return [first, VERSION];
  });

  const triggers = [{ event: `${APP}/any.*` }, { event: `${APP}/fitting`, if: "event.data.n > 1" }];
  host.function("triggers", { triggers }, async (ctx) => ctx.event.name.replace(`${APP}/`, ""));

  const invoked = host.function("only-invoked", { triggers: [] }, async (ctx) => ctx.event.data.n + 1);
  host.function("invokes", {}, async (ctx) => ctx.step.invoke("call", { function: invoked, data: { n: 41 } }));
}

module.exports = { addDressed, middleware };
