// What the shop does behind its web site. Each step is remembered: after a crash, none with a result runs again.
import { inngest } from "./client.js";
import * as mail from "./mail.js";
import * as records from "./records.js";

const TEAM = "team@example.com";
const TRIAL_MS = 14 * 24 * 3_600_000;

// Mail the team and the visitor, side by side.
const answerMessage = inngest.createFunction(
  { id: "answer-message" },
  { event: "shop/message.received" },
  async ({ event, step, runId }) => {
    const { name, email, text } = event.data;
    const mails = await Promise.all([
      step.run("mail-team", () => mail.send(`${runId}.team`, TEAM, `Message from ${name}`, text)),
      step.run("mail-visitor", () =>
        mail.send(`${runId}.visitor`, email, "Thank you", `${name}, we have your message.`),
      ),
    ]);
    return { mails };
  },
);

// Reserve the goods, wait for the payment, and ship them; without a payment in time, release them.
const fulfilOrder = inngest.createFunction(
  { id: "fulfil-order" },
  { event: "shop/order.placed" },
  async ({ event, step }) => {
    const { order, item, hold_s } = event.data;
    const reach = (state) => records.put("orders", order, { item, state });
    await step.run("reserve", () => reach("reserved"));
    const paid = await step.waitForEvent("payment", {
      event: "shop/order.paid",
      if: "event.data.order == async.data.order",
      timeout: `${hold_s}s`,
    });
    if (paid === null) return step.run("release", () => reach("expired"));
    return step.run("ship", () => reach("shipped"));
  },
);

// Three functions that a new account starts. Each has its own retries: none waits for another.
const welcome = inngest.createFunction(
  { id: "welcome" },
  { event: "shop/account.created" },
  ({ event, step, runId }) =>
    step.run("mail", () => mail.send(runId, event.data.email, "Welcome", "It is good to have you here.")),
);

// A trial of 14 days, from the time of the sign-up, however late this runs.
const startTrial = inngest.createFunction(
  { id: "start-trial" },
  { event: "shop/account.created" },
  ({ event, step }) =>
    step.run("start", () =>
      records.put("trials", event.data.account, { ends: new Date(event.ts + TRIAL_MS).toISOString() }),
    ),
);

const subscribeToNewsletter = inngest.createFunction(
  { id: "subscribe-to-newsletter" },
  { event: "shop/account.created" },
  ({ event, step }) =>
    step.run("subscribe", () => records.put("newsletter", event.data.account, { email: event.data.email })),
);

// Count the orders by state once an hour, for the front page.
const refreshFigures = inngest.createFunction({ id: "refresh-figures" }, { cron: "0 * * * *" }, ({ step }) =>
  step.run("count", async () => {
    const states = {};
    for (const { state } of (await records.every("orders")).values()) states[state] = (states[state] ?? 0) + 1;
    return records.put("figures", "orders", states);
  }),
);

export const functions = [answerMessage, fulfilOrder, welcome, startTrial, subscribeToNewsletter, refreshFigures];
