// Mail over SMTP, to the server that SMTP_HOST and SMTP_PORT name.
//
// A step whose process dies after the mail and before its answer runs again. The mail has the same Message-ID then, so
// that a mailbox can tell that it has it already.
import nodemailer from "nodemailer";

export const TEAM = "team@example.com";

const transport = nodemailer.createTransport({
  host: process.env.SMTP_HOST ?? "127.0.0.1",
  port: Number(process.env.SMTP_PORT ?? 1025),
});

// Hand a mail to the SMTP server; its Message-ID. The same `key` makes the same Message-ID.
export async function send(key: string, to: string, subject: string, text: string): Promise<string> {
  const messageId = `<${key}@blog.example.com>`;
  await transport.sendMail({ messageId, from: "blog@example.com", to, subject, text });
  return messageId;
}
