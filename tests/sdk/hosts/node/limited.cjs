// Functions with flow control, an option each. Same names as in ../python/limited.py.
const { did, gate } = require("./host.cjs");

function addLimited(host) {
  const held = async (ctx) => {
    await ctx.step.run("held", gate(ctx, "held"));
    return ctx.event.data.n ?? null;
  };
  const notes = async (ctx) => did(ctx, "ran", ctx.event.data.n);
  const key = "event.data.key";

  host.function("concurrency", { concurrency: [{ limit: 1, key }] }, held);
  host.function("priority", { concurrency: [{ limit: 1 }], priority: { run: "event.data.n" } }, held);
  host.function("singleton", { singleton: { key, mode: "skip" } }, held);
  host.function("throttle", { throttle: { limit: 1, period: "2s", key } }, notes);
  host.function("rate-limit", { rateLimit: { limit: 1, period: "60s", key } }, notes);
  host.function("debounce", { debounce: { period: "1s", key } }, notes);
  host.function("idempotency", { idempotency: key }, notes);
}

module.exports = { addLimited };
