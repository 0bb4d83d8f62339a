import { notFound } from "next/navigation";
import * as records from "@/site/records";
import { confirm } from "../actions";

type Props = { params: Promise<{ signup: string }>; searchParams: Promise<{ confirmed?: string }> };

export default async function Signup({ params, searchParams }: Props) {
  const { signup } = await params;
  const found = await records.get<records.Signup>("signups", signup);
  if (!found) notFound();
  const isOpen = found.state === "asked" && (await searchParams).confirmed === undefined;
  return (
    <>
      <h1>Become a member</h1>
      {found.state === "expired" && <p role="status">This link is too old. Please sign up again.</p>}
      {found.state !== "expired" && !isOpen && <p role="status">Thank you, you are a member.</p>}
      {isOpen && (
        <form action={confirm.bind(null, signup)}>
          <p>Is {found.email} yours?</p>
          <button>Yes</button>
        </form>
      )}
    </>
  );
}
