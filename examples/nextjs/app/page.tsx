import Link from "next/link";
import * as records from "@/site/records";

export const dynamic = "force-dynamic"; // Posts come from the CMS at any time.

export default async function Posts() {
  const posts = [...(await records.every<records.Post>("posts"))];
  return (
    <>
      <h1>Posts</h1>
      {posts.length === 0 && <p>None yet: the CMS has delivered nothing.</p>}
      <ul>
        {posts.map(([slug, { title, minutes }]) => (
          <li key={slug}>
            <Link href={`/posts/${slug}`}>{title}</Link>, {minutes} min
          </li>
        ))}
      </ul>
    </>
  );
}
