// A view of a post, which the page tells of once it is shown. Counting it is not the visitor's business.
import { inngest } from "@/inngest/client";
import { postViewed } from "@/inngest/events";
import * as records from "@/site/records";

export async function POST(_: Request, { params }: { params: Promise<{ slug: string }> }): Promise<Response> {
  const { slug } = await params;
  if (!(await records.get("posts", slug))) return Response.json({ error: "There is no such post." }, { status: 404 });
  await inngest.send(postViewed.create({ slug }));
  return new Response(null, { status: 202 });
}
