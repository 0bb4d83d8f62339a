"use client";

import { useEffect } from "react";

// Tells the site that a post is being read: by the browser, so that nothing that only prefetches the page counts.
export function TellView({ slug }: { slug: string }) {
  useEffect(() => {
    navigator.sendBeacon(`/api/posts/${slug}/views`);
  }, [slug]);
  return null;
}
