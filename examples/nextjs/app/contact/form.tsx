"use client";

import { useActionState } from "react";
import { sendMessage } from "./actions";

export function ContactForm() {
  const [answer, send, isSending] = useActionState(sendMessage, "");
  return (
    <form action={send}>
      <p>
        <input name="name" placeholder="Your name" required />{" "}
        <input name="email" type="email" placeholder="Your mail address" required />
      </p>
      <p>
        <textarea name="text" placeholder="Your message" rows={5} required />
      </p>
      <button disabled={isSending}>Send</button>
      <p role="status">{answer}</p>
    </form>
  );
}
