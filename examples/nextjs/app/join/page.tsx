import { JoinForm } from "./form";

export default function Join() {
  return (
    <>
      <h1>Become a member</h1>
      <JoinForm />
    </>
  );
}
