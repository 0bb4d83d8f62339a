// A post that the CMS has delivered. Its length and each of its links are looked at side by side, and then it is shown.
import { inngest } from "@/inngest/client";
import { postDelivered } from "@/inngest/events";
import { answers } from "@/site/addresses";
import * as records from "@/site/records";

const WORDS_A_MINUTE = 200;

export const publishPost = inngest.createFunction(
  { id: "publish-post", triggers: postDelivered },
  async ({ event, step }) => {
    const { slug, title, text, links } = event.data;
    const [minutes, ...answered] = await Promise.all([
      step.run("measure", () => Math.ceil(text.split(/\s+/).filter(Boolean).length / WORDS_A_MINUTE)),
      ...links.map((link) => step.run(`check ${link}`, () => answers(link))),
    ]);
    const dead = links.filter((_, at) => !answered[at]);
    return step.run("publish", () => records.put<records.Post>("posts", slug, { title, text, minutes, dead }));
  },
);
