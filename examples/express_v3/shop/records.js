// Records as JSON files below SHOP_DATA, where a larger shop has a database.
// Each write replaces a whole record, so a step that runs again does no harm.
import { mkdir, readFile, readdir, rename, writeFile } from "node:fs/promises";
import path from "node:path";

const ROOT = process.env.SHOP_DATA ?? ".shop";

// Write a record, at once or not at all; it.
export async function put(kind, id, record) {
  const file = path.join(ROOT, kind, `${id}.json`);
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(`${file}.new`, JSON.stringify(record));
  await rename(`${file}.new`, file);
  return record;
}

// A record; undefined where there is none.
export async function get(kind, id) {
  return (await every(kind)).get(id);
}

// All records of a kind by their ids. An id of a visitor is compared with these and never made a path.
export async function every(kind) {
  const folder = path.join(ROOT, kind);
  const names = await readdir(folder).catch((error) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const records = new Map();
  for (const name of names.filter((name) => name.endsWith(".json")).sort()) {
    records.set(path.basename(name, ".json"), JSON.parse(await readFile(path.join(folder, name), "utf8")));
  }
  return records;
}
