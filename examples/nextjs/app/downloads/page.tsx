import * as records from "@/site/records";

// Rendered once and kept. The hourly function has it rendered anew; this is for when that was lost, as in a restart.
export const revalidate = 3600;

export default async function Downloads() {
  const downloads = await records.get<records.Downloads>("downloads", "latest");
  return (
    <>
      <h1>Downloads</h1>
      <p>{downloads ? `${downloads.total} so far` : "Not counted yet"}</p>
    </>
  );
}
