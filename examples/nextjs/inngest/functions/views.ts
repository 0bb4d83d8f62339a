// Views of posts are events. Those of one post are counted together; at a milestone the list of trending posts is made anew.
import { inngest } from "@/inngest/client";
import { milestoneReached, postViewed } from "@/inngest/events";
import * as records from "@/site/records";

const MILESTONES = [10, 100, 1_000, 10_000];
const TRENDING_MAX = 5;

// The views of a run are one record, which a step that runs again writes once more: none is counted twice. The steps of
// one post run one after another, so each sees all that was counted before it.
export const countViews = inngest.createFunction(
  {
    id: "count-views",
    batchEvents: { maxSize: 100, timeout: "1s", key: "event.data.slug" },
    concurrency: { limit: 1, key: "event.data.slug" },
    triggers: postViewed,
  },
  async ({ events, step, runId }) => {
    const { slug } = events[0].data;
    const { before, views } = await step.run("count", async () => {
      await records.put(`views/${slug}`, runId, events.length);
      const views = await counted(slug);
      return { before: views - events.length, views };
    });
    const reached = MILESTONES.filter((milestone) => before < milestone && milestone <= views);
    if (reached.length > 0) {
      // The id keeps a milestone to one event, whichever run sends it.
      const sent = reached.map((views) => milestoneReached.create({ slug, views }, { id: `milestone-${slug}-${views}` }));
      await step.sendEvent("milestones", sent);
    }
    return { views, reached };
  },
);

export const refreshTrending = inngest.createFunction(
  { id: "refresh-trending", concurrency: 1, triggers: milestoneReached },
  ({ step }) =>
    step.run("refresh", async () => {
      const posts = await records.every<records.Post>("posts");
      const trending = await Promise.all(
        [...posts].map(async ([slug, { title }]) => ({ slug, title, views: await counted(slug) })),
      );
      trending.sort((one, other) => other.views - one.views);
      return records.put<records.Trending>("trending", "latest", trending.slice(0, TRENDING_MAX));
    }),
);

async function counted(slug: string): Promise<number> {
  return [...(await records.every<number>(`views/${slug}`)).values()].reduce((sum, views) => sum + views, 0);
}
