// Every event of the site, with the type of its data. A function names one as its trigger, a page creates one to send.
import { eventType, staticSchema } from "inngest";

export const messageReceived = eventType("blog/message.received", {
  schema: staticSchema<{ name: string; email: string; text: string }>(),
});

export const downloadsAsked = eventType("blog/downloads.asked");

export const advisoriesAsked = eventType("blog/advisories.asked");

// What the CMS delivers. `id` is its delivery's: a delivery that comes again has the same.
export type Delivery = { id: string; slug: string; title: string; text: string; links: string[] };
export const postDelivered = eventType("cms/post.delivered", { schema: staticSchema<Delivery>() });

export const postViewed = eventType("blog/post.viewed", { schema: staticSchema<{ slug: string }>() });

export const milestoneReached = eventType("blog/milestone.reached", {
  schema: staticSchema<{ slug: string; views: number }>(),
});

// `within` says how long the visitor has to confirm, such as "7d".
export const signupAsked = eventType("blog/signup.asked", {
  schema: staticSchema<{ signup: string; email: string; within: string }>(),
});

export const signupConfirmed = eventType("blog/signup.confirmed", { schema: staticSchema<{ signup: string }>() });

export const memberJoined = eventType("blog/member.joined", {
  schema: staticSchema<{ member: string; email: string }>(),
});
