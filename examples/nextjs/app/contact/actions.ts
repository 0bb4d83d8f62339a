"use server";

import { inngest } from "@/inngest/client";
import { messageReceived } from "@/inngest/events";
import { field } from "@/site/forms";

// The visitor is answered once the event is durable; the mails go out behind it.
export async function sendMessage(_: string, form: FormData): Promise<string> {
  const [name, email] = [field(form, "name"), field(form, "email")];
  const text = String(form.get("text") ?? "").trim();
  if (!(name && email && text)) return "Please fill in your name, your mail address and your message.";
  await inngest.send(messageReceived.create({ name, email, text }));
  return "Thank you, we have your message.";
}
