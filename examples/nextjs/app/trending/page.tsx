import Link from "next/link";
import * as records from "@/site/records";

export const dynamic = "force-dynamic"; // The list is made behind the page, and is there to be read.

export default async function Trending() {
  const trending = (await records.get<records.Trending>("trending", "latest")) ?? [];
  return (
    <>
      <h1>Trending</h1>
      <ol>
        {trending.map(({ slug, title, views }) => (
          <li key={slug}>
            <Link href={`/posts/${slug}`}>{title}</Link>, {views} views
          </li>
        ))}
      </ol>
    </>
  );
}
