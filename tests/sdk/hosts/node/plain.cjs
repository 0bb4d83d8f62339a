// Functions that go well: steps, sleeps, waits, invocations, events. Same names and results as in ../python/plain.py.
const { APP, OUTSIDE, SDK, did, sdk } = require("./host.cjs");

const LARGE_CHARS = 1_500_000;

function addPlain(host) {
  host.function("hello", { retries: 2 }, async () => "done");

  host.function("three-steps", {}, async (ctx) => {
    const one = await ctx.step.run("one", () => did(ctx, "one", ctx.event.data.n + 1));
    const two = await ctx.step.run("two", () => did(ctx, "two", one * 2));
    const three = await ctx.step.run("three", () => did(ctx, "three", { is: two }));
    return { one, two, three };
  });

  host.function("returns", {}, async (ctx) => {
    const step = await ctx.step.run("value", () => ctx.event.data.value);
    return { step, event: ctx.event.data.value };
  });

  host.function("returns-it", {}, async (ctx) => ctx.event.data.value);

  host.function("same-id", {}, async (ctx) => {
    const seen = [];
    for (const i of [0, 1, 2]) seen.push(await ctx.step.run("again", () => did(ctx, `again ${i}`, i)));
    return seen;
  });

  host.function("sleep", {}, async (ctx) => {
    await ctx.step.run("before", () => did(ctx, "before"));
    await ctx.step.sleep("nap", "1s");
    await ctx.step.run("between", () => did(ctx, "between"));
    await ctx.step.sleepUntil("until", new Date(ctx.event.data.until * 1000));
    await ctx.step.run("after", () => did(ctx, "after"));
    return "awake";
  });

  host.function("wait", {}, async (ctx) => {
    const answer = await ctx.step.waitForEvent("answer", {
      event: `${APP}/answer`,
      if: "event.data.id == async.data.id",
      timeout: ctx.event.data.timeout_ms,
    });
    return { answer: await ctx.step.run("read", () => did(ctx, "read", answer && answer.data.text)) };
  });

  host.function("parallel", {}, async (ctx) => {
    const chain = async (name) => {
      const first = await ctx.step.run(`${name}.1`, () => did(ctx, `${name}.1`, name));
      return ctx.step.run(`${name}.2`, () => did(ctx, `${name}.2`, first + first));
    };
    const both = () => Promise.all([chain("a"), chain("b")]);
    return SDK === "v4" && ctx.event.data.mode === "race" ? ctx.group.parallel({ mode: "race" }, both) : both();
  });

  host.function("large", {}, async (ctx) => {
    const texts = [];
    for (const i of [0, 1, 2]) {
      texts.push(await ctx.step.run(`${i}`, () => did(ctx, `${i}`, `${i}`.repeat(LARGE_CHARS))));
    }
    return { lengths: texts.map((text) => text.length), firsts: texts.map((text) => text[0]) };
  });

  host.function("send-event", {}, async (ctx) => {
    const events = [1, 2].map((n) => ({ name: `${APP}/told`, data: { n, by: ctx.runId } }));
    return (await ctx.step.sendEvent("tell", events)).ids;
  });

  host.function("told", {}, async (ctx) => did(ctx, "told", ctx.event.data.n, { by: ctx.event.data.by }));

  const numbers = async ({ events }) => events.map((event) => event.data.n).sort();
  host.function("batch", { batchEvents: { maxSize: 3, timeout: "60s" } }, numbers);
  host.function("batch-late", { batchEvents: { maxSize: 100, timeout: "1s" } }, numbers);

  host.function("tick", { triggers: [{ cron: "* * * * *" }] }, async (ctx) => did(ctx, "tick", ctx.event.name));
}

function addOutside(host) {
  host.function("infer", {}, async (ctx) => {
    const answer = await ctx.step.ai.infer("ask", {
      model: sdk.openai({ model: "a-model", apiKey: "a-secret", baseUrl: `${OUTSIDE}/v1` }),
      body: { messages: [{ role: "user", content: ctx.event.data.text }] },
    });
    return answer.choices[0].message.content;
  });

  host.function("wrap", {}, async (ctx) => {
    const asked = async (text) => did(ctx, "asked", { answer: `you said ${text}` });
    return (await ctx.step.ai.wrap("ask", asked, ctx.event.data.text)).answer;
  });

  host.function("fetch", {}, async (ctx) => {
    const answer = await ctx.step.fetch(`${OUTSIDE}/teapot`, { method: "POST", body: ctx.event.data.text });
    return { status: answer.status, text: await answer.text(), kind: answer.headers.get("x-kind") };
  });

  host.function("signal", {}, async (ctx) => {
    const { signal, timeout } = ctx.event.data;
    const got = await ctx.step.waitForSignal("signal", { signal, timeout, onConflict: "fail" });
    return { got: await ctx.step.run("read", () => did(ctx, "read", got && got.data)) };
  });

  host.function("send-signal", {}, async (ctx) => {
    await ctx.step.sendSignal("say", { signal: ctx.event.data.signal, data: { by: ctx.runId } });
    return "said";
  });
}

function addInvoking(host) {
  const children = {};
  children["child"] = host.function("child", {}, async (ctx) => ({
    doubled: await ctx.step.run("double", () => did(ctx, "double", ctx.event.data.n * 2)),
  }));
  children["child-fails"] = host.function("child-fails", {}, async () => {
    throw new sdk.NonRetriableError("the child cannot");
  });
  children["child-sleeps"] = host.function("child-sleeps", {}, async (ctx) => ctx.step.sleep("long", "1h"));

  host.function("invoke", {}, async (ctx) => {
    const { child, n, timeout_ms: timeout } = ctx.event.data;
    const given = { function: children[child], data: { n }, ...(timeout && { timeout }) };
    if (!ctx.event.data.catch) return { child: await ctx.step.invoke("child", given) };
    try {
      await ctx.step.invoke("child", given);
    } catch (error) {
      return { name: error.name, message: error.message };
    }
    return "nothing was caught";
  });
}

module.exports = { LARGE_CHARS, addPlain, addOutside, addInvoking };
