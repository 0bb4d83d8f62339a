// The client that the site sends events with and the functions belong to. INNGEST_DEV says where the server is.
import { Inngest } from "inngest";

export const inngest = new Inngest({ id: "blog" });
