// Where this site is for its visitors, and where its feeds are. The feeds of public/feeds/ stand in for those of others.
export const SITE_URL = process.env.SITE_URL ?? "http://127.0.0.1:3000";
export const DOWNLOADS_URL = process.env.DOWNLOADS_URL ?? `${SITE_URL}/feeds/downloads.json`;
export const ADVISORIES_URL = process.env.ADVISORIES_URL ?? `${SITE_URL}/feeds/advisories.json`;

const ANSWERS_WITHIN_MS = 30_000;

// The JSON at an address. An answer that is none fails the step, which is retried.
export async function fetched<T>(url: string): Promise<T> {
  const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(ANSWERS_WITHIN_MS) });
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}, expected 200: is the address right?`);
  return answer.json();
}

// Whether a page answers at an address. False also where nothing listens: a finding, and no reason to try again.
export async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(ANSWERS_WITHIN_MS) })).ok;
  } catch {
    return false;
  }
}
