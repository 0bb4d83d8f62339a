// A monitor: alerts the team of each advisory once, over all its runs.
//
// What was alerted is a record, written by the step that sends the mail. One run at a time: two would both find the
// same advisory new. The next run finds what this one leaves.
import { cron } from "inngest";
import { inngest } from "@/inngest/client";
import { advisoriesAsked } from "@/inngest/events";
import { ADVISORIES_URL, fetched } from "@/site/addresses";
import * as mail from "@/site/mail";
import * as records from "@/site/records";

type Advisory = { id: string; title: string };

export const watchAdvisories = inngest.createFunction(
  { id: "watch-advisories", singleton: { mode: "skip" }, triggers: [cron("*/10 * * * *"), advisoriesAsked] },
  async ({ step }) => {
    const fresh = await step.run("fetch", async () => {
      const alerted = await records.ids("alerts");
      const advisories = await fetched<Advisory[]>(ADVISORIES_URL);
      return advisories.filter(({ id }) => !alerted.includes(id));
    });
    for (const { id, title } of fresh) {
      await step.run(`alert-${id}`, async () => {
        await mail.send(`advisory.${encodeURIComponent(id)}`, mail.TEAM, `Advisory ${id}`, title);
        await records.put("alerts", id, { title });
      });
    }
    return { alerted: fresh.map(({ id }) => id) };
  },
);
