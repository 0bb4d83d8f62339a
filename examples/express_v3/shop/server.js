// The web site. A request is answered once its event is durable; the work goes on behind it.
//
//     npm start
import { randomUUID } from "node:crypto";
import express from "express";
import { serve } from "inngest/express";
import { inngest } from "./client.js";
import { functions } from "./functions.js";
import * as records from "./records.js";

const FORM = `<!doctype html><title>Shop</title><h1>Write to us</h1>
<form method="post" action="/contact">
<p><input name="name" placeholder="Your name" required> <input name="email" type="email" placeholder="Mail" required>
<p><textarea name="text" placeholder="Your message" required></textarea> <p><button>Send</button></form>`;
const HOLD_S_MAX = 86_400;

const app = express();
app.use("/api/inngest", express.json({ limit: "8mb" }), serve({ client: inngest, functions }));
app.use(express.json(), express.urlencoded({ extended: false }));

// Express 4 does not see that a handler's promise was rejected.
const handled = (handler) => (request, response, next) => handler(request, response).catch(next);
const oneLine = (text) => String(text ?? "").split(/\s+/).filter(Boolean).join(" ");

app.get("/", (request, response) => response.send(FORM));

app.post("/contact", handled(async ({ body }, response) => {
  const [name, email, text] = [oneLine(body.name), oneLine(body.email), String(body.text ?? "").trim()];
  if (!(name && email && text)) {
    return response.status(400).send("Please fill in your name, your mail address and your message.");
  }
  await inngest.send({ name: "shop/message.received", data: { name, email, text } });
  response.status(202).send("Thank you, we have your message.");
}));

app.post("/orders", handled(async ({ body }, response) => {
  const { item, hold_s = 3_600 } = body;
  if (typeof item !== "string" || !item || !(Number.isInteger(hold_s) && 1 <= hold_s && hold_s <= HOLD_S_MAX)) {
    return response.status(422).send(`An order has an item, and hold_s of 1 to ${HOLD_S_MAX}.`);
  }
  const order = randomUUID();
  await records.put("orders", order, { item, state: "placed" });
  await inngest.send({ name: "shop/order.placed", id: order, data: { order, item, hold_s } });
  response.status(202).send({ order });
}));

app.get("/orders/:order", handled(async ({ params }, response) => {
  const found = await records.get("orders", params.order);
  found ? response.send(found) : response.status(404).send("There is no such order.");
}));

app.post("/orders/:order/payment", handled(async ({ params: { order } }, response) => {
  if (!(await records.get("orders", order))) return response.status(404).send("There is no such order.");
  await inngest.send({ name: "shop/order.paid", data: { order } });
  response.status(202).send({ order });
}));

app.post("/accounts", handled(async ({ body }, response) => {
  const email = oneLine(body.email);
  if (!/^[^@\s]+@[^@\s]+$/.test(email)) return response.status(422).send("An account has a mail address.");
  const account = randomUUID();
  await inngest.send({ name: "shop/account.created", id: account, data: { account, email } });
  response.status(202).send({ account });
}));

app.get("/figures", handled(async (request, response) => response.send((await records.get("figures", "orders")) ?? {})));

app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1");
