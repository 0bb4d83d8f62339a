// A message of the contact form: two mails, side by side, each a step that is retried alone.
import { inngest } from "@/inngest/client";
import { messageReceived } from "@/inngest/events";
import * as mail from "@/site/mail";

export const answerMessage = inngest.createFunction(
  { id: "answer-message", triggers: messageReceived },
  async ({ event, step, runId }) => {
    const { name, email, text } = event.data;
    const mails = await Promise.all([
      step.run("mail-team", () => mail.send(`${runId}.team`, mail.TEAM, `Message from ${name}`, text)),
      step.run("mail-visitor", () =>
        mail.send(`${runId}.visitor`, email, "Thank you", `${name}, we have your message.`),
      ),
    ]);
    return { mails };
  },
);
