// Functions that stand in a step of each kind until a test frees them. Same names and results as in ../python/held.py.
const { APP, OUTSIDE, SDK, did, gate, sdk } = require("./host.cjs");
const { LARGE_CHARS } = require("./plain.cjs");

function addHeld(host) {
  const held = (kind, options, body) =>
    host.function(`held-${kind}`, options, async (ctx) => {
      await ctx.step.run("first", () => did(ctx, "first"));
      const result = await body(ctx);
      await ctx.step.run("last", () => did(ctx, "last"));
      return result;
    });
  addTimed(held);
  addAwaiting(host, held);
  addWorking(held);
  addOutside(held);
}

function addTimed(held) {
  const until = (ctx) => new Date(ctx.event.data.until * 1000);
  held("sleep", {}, async (ctx) => {
    await ctx.step.sleepUntil("nap", until(ctx));
    return "awake";
  });
  held("retry", {}, async (ctx) =>
    ctx.step.run("bursts", () => {
      did(ctx, `attempt ${ctx.attempt}`);
      if (ctx.attempt === 0) throw new sdk.RetryAfterError("not yet", until(ctx));
      return "mended";
    }),
  );
}

function addAwaiting(host, held) {
  held("wait", {}, async (ctx) => {
    const found = { event: `${APP}/held-answer`, if: "event.data.id == async.data.id", timeout: "1h" };
    return (await ctx.step.waitForEvent("answer", found)).data.text;
  });
  held("signal", {}, async (ctx) => {
    const signal = { signal: ctx.event.data.id, timeout: "1h", onConflict: "fail" };
    return (await ctx.step.waitForSignal("signal", signal)).data;
  });
  const child = host.function("held-child", {}, async (ctx) => ctx.step.run("held", gate(ctx, "held")));
  held("invoke", {}, async (ctx) => ctx.step.invoke("child", { function: child, data: ctx.event.data }));

  const batchEvents = { maxSize: 2, timeout: "1h", key: "event.data.id" };
  const numbers = (ctx) => ctx.events.map((event) => event.data.n).sort();
  held("batch", { batchEvents }, async (ctx) => {
    await ctx.step.run("held", gate(ctx, "held"));
    return numbers(ctx);
  });
  held("collecting", { batchEvents }, async (ctx) => numbers(ctx));
}

function addWorking(held) {
  held("run", {}, async (ctx) => ctx.step.run("held", gate(ctx, "held")));

  const both = (ctx) => async () => {
    const quick = async (name) => {
      await ctx.step.run(`${name}.1`, () => did(ctx, `${name}.1`));
      return ctx.step.run(`${name}.2`, () => did(ctx, `${name}.2`, "quick"));
    };
    return Promise.all([quick("a"), ctx.step.run("b", gate(ctx, "held"))]);
  };
  held("joint", {}, async (ctx) => both(ctx)());
  if (SDK === "v4") held("race", {}, async (ctx) => ctx.group.parallel({ mode: "race" }, both(ctx)));

  held("large", {}, async (ctx) => {
    for (const i of [0, 1, 2]) await ctx.step.run(`${i}`, () => did(ctx, `${i}`, `${i}`.repeat(LARGE_CHARS)));
    return ctx.step.run("held", gate(ctx, "held"));
  });

  const onFailure = async (ctx) => {
    const { run_id: of, event } = ctx.event.data;
    await ctx.step.run("begin", () => did(ctx, "handler begins", null, { of }));
    await ctx.step.run("held", gate(ctx, "held", event.data.gate));
    await ctx.step.run("end", () => did(ctx, "handler ends", null, { of }));
  };
  held("failure", { retries: 0, onFailure }, async () => {
    throw new Error("it burst");
  });
}

function addOutside(held) {
  held("send", {}, async (ctx) => {
    const sent = await ctx.step.sendEvent("tell", { name: `${APP}/told`, data: { n: 1, by: ctx.runId } });
    return sent.ids;
  });
  held("infer", {}, async (ctx) => {
    const answer = await ctx.step.ai.infer("ask", {
      model: sdk.openai({ model: "a-model", apiKey: "a-secret", baseUrl: `${OUTSIDE}/v1` }),
      body: { messages: [{ role: "user", content: ctx.runId }] },
    });
    return answer.choices[0].message.content;
  });
  held("fetch", {}, async (ctx) => {
    const answer = await ctx.step.fetch(`${OUTSIDE}/teapot`, { method: "POST", body: ctx.runId });
    return answer.text();
  });
}

module.exports = { addHeld };
