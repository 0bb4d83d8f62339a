// A field of a form as one line, so that it fits the header of a mail; empty where there is none.
export function field(form: FormData, name: string): string {
  return String(form.get(name) ?? "").split(/\s+/).filter(Boolean).join(" ");
}
