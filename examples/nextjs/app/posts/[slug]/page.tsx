import { notFound } from "next/navigation";
import * as records from "@/site/records";
import { TellView } from "./tell-view";

export default async function Post({ params }: { params: Promise<{ slug: string }> }) {
  const { slug } = await params;
  const post = await records.get<records.Post>("posts", slug);
  if (!post) notFound();
  return (
    <article>
      <h1>{post.title}</h1>
      <p>{post.text}</p>
      {post.dead.length > 0 && <p>Links that do not answer: {post.dead.join(", ")}</p>}
      <TellView slug={slug} />
    </article>
  );
}
