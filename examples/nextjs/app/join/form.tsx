"use client";

import { useActionState } from "react";
import { askToJoin } from "./actions";

export function JoinForm() {
  const [answer, ask, isAsking] = useActionState(askToJoin, "");
  return (
    <form action={ask}>
      <input name="email" type="email" placeholder="Your mail address" required />{" "}
      <button disabled={isAsking}>Join</button>
      <p role="status">{answer}</p>
    </form>
  );
}
