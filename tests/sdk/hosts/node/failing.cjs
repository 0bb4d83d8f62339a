// Functions that fail, are retried or are cancelled. Same names and results as in ../python/failing.py.
const { APP, did, gate, sdk } = require("./host.cjs");

function addFailing(host) {
  host.function("step-retry", {}, async (ctx) => {
    await ctx.step.run("before", () => did(ctx, "before"));
    const attempt = await ctx.step.run("shaky", () => {
      did(ctx, "shaky");
      if (ctx.attempt < 2) throw new Error(`attempt ${ctx.attempt} burst`);
      return ctx.attempt;
    });
    return { attempt, after: await ctx.step.run("after", () => did(ctx, "after", ctx.attempt)) };
  });

  host.function("body-retry", {}, async (ctx) => {
    await ctx.step.run("before", () => did(ctx, "before"));
    if (ctx.attempt < 2) throw new Error(`attempt ${ctx.attempt} burst`);
    return ctx.attempt;
  });

  const onFailure = async (ctx) => {
    const { run_id: of, function_id, error, event } = ctx.event.data;
    await ctx.step.run("tell", () =>
      did(ctx, "on-failure", null, { of, function: function_id, message: error.message, event: event.data }),
    );
  };
  host.function("fails", { retries: 1, onFailure }, async (ctx) => {
    const bursts = () => {
      did(ctx, "bursts");
      throw new Error("it burst");
    };
    if (!ctx.event.data.catch) return ctx.step.run("bursts", bursts);
    try {
      await ctx.step.run("bursts", bursts);
    } catch (error) {
      return ctx.step.run("mend", () => did(ctx, "mend", { name: error.name, message: error.message }));
    }
  });

  host.function("non-retriable", {}, async (ctx) => {
    await ctx.step.run("bursts", () => {
      did(ctx, "bursts");
      throw new sdk.NonRetriableError("never again");
    });
  });

  host.function("retry-after", {}, async (ctx) =>
    ctx.step.run("later", () => {
      did(ctx, "later");
      if (ctx.attempt === 0) throw new sdk.RetryAfterError("not yet", "2s");
      return ctx.attempt;
    }),
  );
}

function addEnding(host) {
  const cancelOn = [{ event: `${APP}/stop`, if: "event.data.id == async.data.id" }];
  host.function("hold", { cancelOn }, async (ctx) => {
    await ctx.step.run("first", () => did(ctx, "first"));
    const held = await ctx.step.run("held", gate(ctx, "held"));
    await ctx.step.run("last", () => did(ctx, "last"));
    return { held };
  });
  host.function("hold-asleep", { cancelOn }, async (ctx) => ctx.step.sleep("long", "1h"));
  host.function("times-out", { timeouts: { finish: "1s" } }, async (ctx) => ctx.step.sleep("long", "1h"));

  const hear = (name, of) =>
    host.function(
      `on-${name}`,
      { triggers: [{ event: `inngest/function.${name}`, if: `event.data.function_id == '${APP}-${of}'` }] },
      async (ctx) => did(ctx, `heard ${name}`, null, { of: ctx.event.data.run_id, data: ctx.event.data }),
    );
  hear("finished", "three-steps");
  hear("failed", "fails");
  hear("cancelled", "hold-asleep");
}

module.exports = { addFailing, addEnding };
