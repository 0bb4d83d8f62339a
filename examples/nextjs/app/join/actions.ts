"use server";

import { randomUUID } from "node:crypto";
import { redirect } from "next/navigation";
import { inngest } from "@/inngest/client";
import { signupAsked, signupConfirmed } from "@/inngest/events";
import { field } from "@/site/forms";
import * as records from "@/site/records";

const WITHIN = "7d";

// Nobody is a member before the owner of the mailbox has said so.
export async function askToJoin(_: string, form: FormData): Promise<string> {
  const email = field(form, "email");
  if (!/^[^@\s]+@[^@\s]+$/.test(email)) return "That is no mail address.";
  const signup = randomUUID();
  await records.put<records.Signup>("signups", signup, { email, state: "asked" });
  await inngest.send(signupAsked.create({ signup, email, within: WITHIN }, { id: `asked-${signup}` }));
  return "Please look into your mailbox.";
}

// By a button and not by the link alone: programs that check mail open links.
export async function confirm(signup: string): Promise<void> {
  if (!(await records.get("signups", signup))) redirect("/join");
  await inngest.send(signupConfirmed.create({ signup }));
  redirect(`/join/${signup}?confirmed`);
}
