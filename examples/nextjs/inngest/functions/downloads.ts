// The figure of a page, fetched once an hour. Next.js keeps the page as it was rendered, until it is told that it is stale.
import { cron } from "inngest";
import { revalidatePath } from "next/cache";
import { inngest } from "@/inngest/client";
import { downloadsAsked } from "@/inngest/events";
import { DOWNLOADS_URL, fetched } from "@/site/addresses";
import * as records from "@/site/records";

export const refreshDownloads = inngest.createFunction(
  { id: "refresh-downloads", triggers: [cron("0 * * * *"), downloadsAsked] },
  async ({ step }) => {
    const { total } = await step.run("fetch", () => fetched<records.Downloads>(DOWNLOADS_URL));
    await step.run("store", async () => {
      await records.put<records.Downloads>("downloads", "latest", { total });
      revalidatePath("/downloads");
    });
    return { total };
  },
);
