// Deliveries of the CMS. One with the right signature is stored as an event, answered, and processed after that.
import { createHmac, timingSafeEqual } from "node:crypto";
import { inngest } from "@/inngest/client";
import { type Delivery, postDelivered } from "@/inngest/events";

const BYTES_MAX = 1_000_000;
const LINKS_MAX = 20;

export async function POST(request: Request): Promise<Response> {
  if (!(Number(request.headers.get("content-length")) <= BYTES_MAX)) {
    return answer(413, `A delivery has at most ${BYTES_MAX} bytes.`);
  }
  const body = await request.text();
  if (!isSigned(body, request.headers.get("x-cms-signature") ?? "")) {
    return answer(401, "The signature is wrong: expected sha256= and the HMAC of the body in X-Cms-Signature.");
  }
  const delivery = read(body);
  if (!delivery) {
    return answer(422, `A post has an id, a slug of a-z, 0-9 and -, a title, a text, and up to ${LINKS_MAX} links.`);
  }
  // The same delivery again has the same id, and starts nothing again.
  await inngest.send(postDelivered.create(delivery, { id: `cms-${delivery.id}` }));
  return Response.json({ accepted: delivery.id }, { status: 202 });
}

// Without a secret, nothing is signed.
function isSigned(body: string, given: string): boolean {
  const secret = process.env.CMS_SECRET;
  if (!secret) return false;
  const expected = Buffer.from(`sha256=${createHmac("sha256", secret).update(body).digest("hex")}`);
  const got = Buffer.from(given);
  return got.length === expected.length && timingSafeEqual(got, expected);
}

// The delivery in a body; undefined where it is none.
function read(body: string): Delivery | undefined {
  try {
    const { id, slug, title, text, links = [] } = JSON.parse(body);
    const isText = [id, slug, title, text].every((value) => typeof value === "string" && value !== "");
    const isSlug = isText && /^[a-z0-9-]{1,80}$/.test(slug);
    const areLinks = Array.isArray(links) && links.length <= LINKS_MAX && links.every((link) => URL.canParse(link));
    return isSlug && areLinks ? { id, slug, title, text, links } : undefined;
  } catch {
    return undefined;
  }
}

function answer(status: number, error: string): Response {
  return Response.json({ error }, { status });
}
