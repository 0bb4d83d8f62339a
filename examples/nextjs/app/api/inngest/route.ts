// The address at which functions are registered and called.
import { serve } from "inngest/next";
import { inngest } from "@/inngest/client";
import { watchAdvisories } from "@/inngest/functions/advisories";
import { answerMessage } from "@/inngest/functions/contact";
import { refreshDownloads } from "@/inngest/functions/downloads";
import { confirmSignup, createProfile, subscribeToNewsletter, welcome } from "@/inngest/functions/members";
import { publishPost } from "@/inngest/functions/posts";
import { countViews, refreshTrending } from "@/inngest/functions/views";

export const { GET, POST, PUT } = serve({
  client: inngest,
  functions: [
    answerMessage,
    refreshDownloads,
    watchAdvisories,
    publishPost,
    countViews,
    refreshTrending,
    confirmSignup,
    welcome,
    createProfile,
    subscribeToNewsletter,
  ],
});
