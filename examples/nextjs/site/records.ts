// Records as JSON files below SITE_DATA, where a larger site has a database.
// Each write replaces a whole record, so a step that runs again does no harm.
import { mkdir, readFile, readdir, rename, writeFile } from "node:fs/promises";
import path from "node:path";

export type Post = { title: string; text: string; minutes: number; dead: string[] };
export type Trending = { slug: string; title: string; views: number }[];
export type Downloads = { total: number };
export type Signup = { email: string; state: "asked" | "confirmed" | "expired" };

const ROOT = process.env.SITE_DATA ?? ".site";
const SUFFIX = ".json";

// Write a record, at once or not at all; it.
export async function put<T>(kind: string, id: string, record: T): Promise<T> {
  const file = place(kind, id);
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(`${file}.new`, JSON.stringify(record));
  await rename(`${file}.new`, file);
  return record;
}

// A record; undefined where there is none.
export async function get<T>(kind: string, id: string): Promise<T | undefined> {
  const text = await readFile(place(kind, id), "utf8").catch(absent);
  return text === undefined ? undefined : JSON.parse(text);
}

// The ids of all records of a kind, in their order.
export async function ids(kind: string): Promise<string[]> {
  const names = (await readdir(place(kind)).catch(absent)) ?? [];
  const files = names.filter((name) => name.endsWith(SUFFIX));
  return files.map((name) => decodeURIComponent(name.slice(0, -SUFFIX.length))).sort();
}

// All records of a kind by their ids.
export async function every<T>(kind: string): Promise<Map<string, T>> {
  const all = await Promise.all((await ids(kind)).map(async (id) => [id, await get<T>(kind, id)] as const));
  return new Map(all.flatMap(([id, record]) => (record === undefined ? [] : [[id, record] as const])));
}

// The folder of a kind, or the file of a record. An id may come from a visitor: it is one name, whatever is in it.
function place(kind: string, id?: string): string {
  const name = id === undefined ? "" : encodeURIComponent(id) + SUFFIX;
  return path.join(/* turbopackIgnore: true */ ROOT, kind, name);
}

// No file, or an id that no file can have.
function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT" && error.code !== "ENAMETOOLONG") throw error;
}
