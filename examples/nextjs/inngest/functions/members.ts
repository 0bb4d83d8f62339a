// A sign-up waits for the visitor's reply. One that comes starts three functions, each with retries of its own.
import { inngest } from "@/inngest/client";
import { memberJoined, signupAsked, signupConfirmed } from "@/inngest/events";
import { SITE_URL } from "@/site/addresses";
import * as mail from "@/site/mail";
import * as records from "@/site/records";

export const confirmSignup = inngest.createFunction(
  { id: "confirm-signup", triggers: signupAsked },
  async ({ event, step, runId }) => {
    const { signup, email, within } = event.data;
    await step.run("ask", () =>
      mail.send(runId, email, "Please confirm", `To become a member, open ${SITE_URL}/join/${signup}`),
    );
    const reply = await step.waitForEvent("reply", {
      event: signupConfirmed,
      if: "event.data.signup == async.data.signup",
      timeout: within,
    });
    const state = reply === null ? "expired" : "confirmed";
    await step.run("settle", () => records.put<records.Signup>("signups", signup, { email, state }));
    if (reply !== null) await step.sendEvent("joined", memberJoined.create({ member: signup, email }, { id: `joined-${signup}` }));
    return { state };
  },
);

export const welcome = inngest.createFunction(
  { id: "welcome", triggers: memberJoined },
  ({ event, step, runId }) =>
    step.run("mail", () => mail.send(runId, event.data.email, "Welcome", "It is good to have you here.")),
);

export const createProfile = inngest.createFunction(
  { id: "create-profile", triggers: memberJoined },
  ({ event, step }) =>
    step.run("create", () =>
      records.put("profiles", event.data.member, { joined: new Date(event.ts).toISOString() }),
    ),
);

export const subscribeToNewsletter = inngest.createFunction(
  { id: "subscribe-to-newsletter", triggers: memberJoined },
  ({ event, step }) =>
    step.run("subscribe", () => records.put("newsletter", event.data.member, { email: event.data.email })),
);
